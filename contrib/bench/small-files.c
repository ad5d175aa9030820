// As a package manager unpacks: DIRECTORIES two deep below ROOT, FILES in them,
// each of LEAST to MOST bytes, made exclusively, written at once, its mode set.
// The same names and sizes every time.
// Usage: small-files ROOT DIRECTORIES FILES LEAST MOST
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long state = 88172645463325252ul;

static unsigned long next(void) // xorshift64
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    long directories = atol(argv[2]), files = atol(argv[3]), least = atol(argv[4]), most = atol(argv[5]);
    char name[64], *bytes = malloc(most + 1);
    for (long i = 0; i < most; i++)
        bytes[i] = "module.exports = function () {};\n"[i % 33];
    if (chdir(argv[1]))
        fail(argv[1]);
    for (long i = 0; i < directories; i++) {
        snprintf(name, sizeof name, "package-%ld", i / 4);
        if (i % 4 == 0 && mkdir(name, 0755))
            fail(name);
        snprintf(name, sizeof name, "package-%ld/lib-%ld", i / 4, i);
        if (mkdir(name, 0755))
            fail(name);
    }
    for (long i = 0; i < files; i++) {
        long in = i * directories / files, size = least + (long)(next() % (unsigned long)(most - least + 1));
        snprintf(name, sizeof name, "package-%ld/lib-%ld/file-%ld.js", in / 4, in, i);
        int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 || write(file, bytes, size) != size || fchmod(file, i % 50 ? 0644 : 0755) || close(file))
            fail(name);
    }
    return 0;
}
