/* The program that reports from inside a container. One static file, so that it
 * runs in an image that holds nothing else.
 *
 *   guest report              everything a process can see of itself, as JSON
 *   guest syscalls NAME...    tries each; prints "NAME ERRNO-NAME" or "NAME ok"
 *   guest exit N              ends with the code N
 *   guest trap SIGNAL N       prints "ready", then "signal S" and ends with N when it comes
 *   guest sleep               prints "ready" and sleeps until it is killed
 *   guest lines N             prints N numbered lines
 *   guest open PATH           opens PATH for writing; prints "ok" or the errno's name
 *   guest winsize             prints rows and columns, again at each SIGWINCH
 *   guest connect ADDR PORT   prints what the other end sends
 *   guest serve ADDR PORT     echoes what it gets, TCP and UDP; prints "ready"
 *   guest names ADDR REPLY    answers each question for a name with REPLY, on port 53
 *   guest say tcp|udp ADDR PORT N  sends N bytes, prints "ok" when they come back
 *   guest hold COUNT ADDR PORT N   does so by COUNT connections, then prints "ready" and keeps them
 *   guest resolve SERVER      prints the address that SERVER gives for a name
 *   guest ask SERVER NAME RATE N  asks N times for NAME, RATE times a second; prints how often it was
 *                             told an address, how often another one than before, and the last one
 *   guest swap A B            prints "ready" and exchanges the two names until it is killed
 *   guest grow FILE           prints "ready" and makes FILE longer until it is killed
 *   guest direct FILE N       writes FILE N times, directly and asynchronously, while another process reads
 *                             it; prints how many of the writes a read afterwards did not see
 *   guest capable FILE        gives FILE a capability after a write that the kernel may not have passed on yet,
 *                             after one through a mapping, and then writes; prints after each whether it has one
 *   guest execs DIR N         N times has a child look for files in DIR, write some and execute a program, which
 *                             closes them; prints how many of those programs did what they should
 *   guest orphan              leaves a dead grandchild behind for pid 1 to reap
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		unsigned char c = *s;
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

/* "name":["line","line"] */
static void lines_of(const char *name, const char *path)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	const char *comma = "";
	FILE *f = fopen(path, "re");

	printf(",\"%s\":[", name);
	while (f && (n = getline(&line, &size, f)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		fputs(comma, stdout);
		string(line);
		comma = ",";
	}
	putchar(']');
	free(line);
	if (f)
		fclose(f);
}

/* "name":{"entry":"target of the link"} for a folder of links */
static void links_of(const char *name, const char *path)
{
	char target[4096];
	const char *comma = "";
	DIR *dir = opendir(path);
	struct dirent *e;

	printf(",\"%s\":{", name);
	while (dir && (e = readdir(dir))) {
		ssize_t n;
		if (e->d_name[0] == '.')
			continue;
		n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
		if (n < 0 || atoi(e->d_name) == dirfd(dir))
			continue;
		target[n] = 0;
		fputs(comma, stdout);
		string(e->d_name);
		putchar(':');
		string(target);
		comma = ",";
	}
	putchar('}');
	if (dir)
		closedir(dir);
}

static void list(const char *name, char **words)
{
	const char *comma = "";

	printf(",\"%s\":[", name);
	for (; *words; words++) {
		fputs(comma, stdout);
		string(*words);
		comma = ",";
	}
	putchar(']');
}

static int report(char **argv)
{
	char host[256] = "", cwd[4096] = "";
	mode_t mask = umask(0);

	gethostname(host, sizeof host - 1);
	if (!getcwd(cwd, sizeof cwd))
		snprintf(cwd, sizeof cwd, "errno %d", errno);
	printf("{\"pid\":%d,\"ppid\":%d,\"umask\":%u,\"hostname\":", getpid(), getppid(), mask);
	string(host);
	printf(",\"cwd\":");
	string(cwd);
	list("args", argv);
	list("env", environ);
	lines_of("status", "/proc/self/status");
	lines_of("mounts", "/proc/self/mountinfo");
	lines_of("limits", "/proc/self/limits");
	lines_of("cgroup", "/proc/self/cgroup");
	lines_of("uid_map", "/proc/self/uid_map");
	lines_of("gid_map", "/proc/self/gid_map");
	lines_of("oom_score_adj", "/proc/self/oom_score_adj");
	links_of("namespaces", "/proc/self/ns");
	links_of("fds", "/proc/self/fd");
	puts("}");
	return 0;
}

static const char *name_of(int error)
{
	const char *name = strerrorname_np(error);
	return name ? name : "?";
}

/* Arguments that are wrong, so that a call which is let through does nothing. */
static const struct {
	const char *name;
	long nr;
	long a, b, c, d, e;
} calls[] = {
	{ "acct", SYS_acct, -1, 0, 0, 0, 0 },
	{ "add_key", SYS_add_key, 0, 0, 0, 0, 0 },
	{ "bpf", SYS_bpf, -1, 0, 0, 0, 0 },
	{ "chroot", SYS_chroot, 0, 0, 0, 0, 0 },
	{ "clock_settime", SYS_clock_settime, -1, 0, 0, 0, 0 },
	{ "clone3", 435, 0, 0, 0, 0, 0 },
	{ "clone_newuser", SYS_clone, CLONE_NEWUSER | CLONE_FS, 0, 0, 0, 0 },
	{ "delete_module", SYS_delete_module, 0, 0, 0, 0, 0 },
	{ "finit_module", SYS_finit_module, -1, 0, 0, 0, 0 },
	{ "fsconfig", 431, -1, 0, 0, 0, 0 },
	{ "fsmount", 432, -1, 0, 0, 0, 0 },
	{ "fsopen", 430, 0, 0, 0, 0, 0 },
	{ "fspick", 433, -1, 0, 0, 0, 0 },
	{ "getpid", SYS_getpid, 0, 0, 0, 0, 0 },
	{ "init_module", SYS_init_module, 0, 0, 0, 0, 0 },
	{ "io_uring_setup", 425, 0, 0, 0, 0, 0 },
	{ "kcmp", SYS_kcmp, 0, 0, -1, 0, 0 },
	{ "kexec_load", SYS_kexec_load, 0, -1, 0, -1, 0 },
	{ "keyctl", SYS_keyctl, -1, 0, 0, 0, 0 },
	{ "lookup_dcookie", SYS_lookup_dcookie, 0, 0, 0, 0, 0 },
	{ "mbind", SYS_mbind, 1, 0, 99, 0, 0 },
	{ "mknod_block", SYS_mknodat, -1, 0, S_IFBLK, 0, 0 },
	{ "mount", SYS_mount, 0, 0, 0, 0, 0 },
	{ "mount_setattr", 442, -1, 0, 0, 0, 0 },
	{ "move_mount", 429, -1, 0, -1, 0, 0 },
	{ "move_pages", SYS_move_pages, -1, 0, 0, 0, 0 },
	{ "name_to_handle_at", SYS_name_to_handle_at, -1, 0, 0, 0, 0 },
	{ "open_by_handle_at", SYS_open_by_handle_at, -1, 0, 0, 0, 0 },
	{ "open_tree", 428, -1, 0, 0, 0, 0 },
	{ "perf_event_open", SYS_perf_event_open, 0, 0, -1, -1, -1 },
	{ "personality_odd", SYS_personality, 0x0040000, 0, 0, 0, 0 },
	{ "pivot_root", SYS_pivot_root, 0, 0, 0, 0, 0 },
	{ "process_vm_readv", SYS_process_vm_readv, -1, 0, 0, 0, 0 },
	{ "ptrace", SYS_ptrace, -1, 0, 0, 0, 0 },
	{ "quotactl", SYS_quotactl, -1, 0, 0, 0, 0 },
	{ "reboot", SYS_reboot, 0, 0, 0, 0, 0 },
	{ "request_key", SYS_request_key, 0, 0, 0, 0, 0 },
	{ "setns", SYS_setns, -1, 0, 0, 0, 0 },
	{ "settimeofday", SYS_settimeofday, 0, -1, 0, 0, 0 },
	{ "socket_alg", SYS_socket, 38, SOCK_SEQPACKET, 0, 0, 0 },
	{ "socket_inet", SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0 },
	{ "socket_netlink_audit", SYS_socket, AF_NETLINK, SOCK_RAW, 9, 0, 0 },
	{ "socket_packet", SYS_socket, AF_PACKET, SOCK_RAW, 0, 0, 0 },
	{ "socket_vsock", SYS_socket, 40, SOCK_STREAM, 0, 0, 0 },
	{ "swapoff", SYS_swapoff, 0, 0, 0, 0, 0 },
	{ "swapon", SYS_swapon, 0, 0, 0, 0, 0 },
	{ "syslog", SYS_syslog, -1, 0, 0, 0, 0 },
	{ "umount2", SYS_umount2, 0, 0, 0, 0, 0 },
	{ "unshare_files", SYS_unshare, CLONE_FILES, 0, 0, 0, 0 },
	{ "unshare_newns", SYS_unshare, CLONE_NEWNS, 0, 0, 0, 0 },
	{ "unshare_newuser", SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0 },
	{ "userfaultfd", SYS_userfaultfd, -1, 0, 0, 0, 0 },
	{ "vhangup", SYS_vhangup, 0, 0, 0, 0, 0 },
#ifdef __x86_64__
	{ "create_module", SYS_create_module, 0, 0, 0, 0, 0 },
	{ "ioperm", SYS_ioperm, 0, 0, 0, 0, 0 },
	{ "iopl", SYS_iopl, 9, 0, 0, 0, 0 },
	{ "modify_ldt", SYS_modify_ldt, -1, 0, 0, 0, 0 },
	{ "nfsservctl", SYS_nfsservctl, 0, 0, 0, 0, 0 },
	{ "uselib", SYS_uselib, 0, 0, 0, 0, 0 },
#endif
};

/* In a child: some calls change the caller, and a filter may kill it. */
static void try_call(size_t i)
{
	int pipes[2], status;
	char answer[64] = "";
	pid_t child;

	if (pipe(pipes))
		exit(1);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		long r = syscall(calls[i].nr, calls[i].a, calls[i].b, calls[i].c, calls[i].d, calls[i].e);
		snprintf(answer, sizeof answer, "%s", r < 0 ? name_of(errno) : "ok");
		if (write(pipes[1], answer, strlen(answer)) < 0)
			_exit(1);
		_exit(0);
	}
	close(pipes[1]);
	if (read(pipes[0], answer, sizeof answer - 1) <= 0)
		strcpy(answer, "killed");
	close(pipes[0]);
	waitpid(child, &status, 0);
	printf("%s %s\n", calls[i].name, answer);
}

static int syscalls(char **names)
{
	size_t i;

	for (; *names; names++) {
		for (i = 0; i < sizeof calls / sizeof *calls; i++)
			if (!strcmp(*names, calls[i].name) || !strcmp(*names, "all"))
				try_call(i);
	}
	return 0;
}

static volatile sig_atomic_t caught;

static void note(int signal)
{
	caught = signal;
}

static void on(int signal)
{
	/* No SA_RESTART: the sleep must end. */
	struct sigaction action = { .sa_handler = note };
	sigaction(signal, &action, NULL);
}

static int trap(int signal, int code)
{
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, signal);
	sigprocmask(SIG_BLOCK, &set, &old);
	on(signal);
	puts("ready");
	fflush(stdout);
	sigdelset(&old, signal);
	while (!caught)
		sigsuspend(&old);
	printf("signal %d\n", (int)caught);
	fflush(stdout);
	return code;
}

static int winsize(void)
{
	struct winsize size;
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, &old);
	sigdelset(&old, SIGWINCH);
	on(SIGWINCH);
	for (;;) {
		if (ioctl(0, TIOCGWINSZ, &size))
			return perror("TIOCGWINSZ"), 1;
		printf("%d %d\n", size.ws_row, size.ws_col);
		fflush(stdout);
		sigsuspend(&old);
	}
}

static int connect_to(const char *address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	char buffer[4096];
	ssize_t n;
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (s < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
	    connect(s, (struct sockaddr *)&to, sizeof to)) {
		puts(name_of(errno));
		return 1;
	}
	while ((n = read(s, buffer, sizeof buffer)) > 0)
		if (write(1, buffer, n) != n)
			return 1;
	return 0;
}

/* A socket at an address of either family; bound to it or connected with it. */
static int at(int kind, const char *address, int port, int is_server)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int is_four = inet_pton(AF_INET, address, &four.sin_addr) == 1;
	struct sockaddr *name = is_four ? (void *)&four : (void *)&six;
	socklen_t length = is_four ? sizeof four : sizeof six;
	struct timeval patience = { 5, 0 };
	int one = 1, s;

	if (!is_four && inet_pton(AF_INET6, address, &six.sin6_addr) != 1)
		return -1;
	s = socket(is_four ? AF_INET : AF_INET6, kind, 0);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	/* Not the two minutes of TCP, for who is told nothing. */
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (s < 0 || (is_server ? bind(s, name, length) : connect(s, name, length)) ||
	    (is_server && kind == SOCK_STREAM && listen(s, 64))) {
		puts(name_of(errno));
		return -1;
	}
	return s;
}

static void echo(int s)
{
	static char buffer[65536];
	ssize_t n, done, count;

	while ((n = read(s, buffer, sizeof buffer)) > 0)
		for (done = 0; done < n; done += count)
			if ((count = write(s, buffer + done, n - done)) <= 0)
				return;
}

static int serve(const char *address, int port)
{
	int stream = at(SOCK_STREAM, address, port, 1), datagram = at(SOCK_DGRAM, address, port, 1);
	struct pollfd fds[] = { { stream, POLLIN, 0 }, { datagram, POLLIN, 0 } };
	static char buffer[65536];

	if (stream < 0 || datagram < 0)
		return 1;
	signal(SIGCHLD, SIG_IGN);
	puts("ready");
	fflush(stdout);
	while (poll(fds, 2, -1) >= 0) {
		struct sockaddr_storage from;
		socklen_t length = sizeof from;
		ssize_t n;
		int s;

		if (fds[1].revents && (n = recvfrom(datagram, buffer, sizeof buffer, 0, (void *)&from, &length)) >= 0)
			sendto(datagram, buffer, n, 0, (void *)&from, length);
		if (fds[0].revents && (s = accept(stream, NULL, NULL)) >= 0) {
			if (fork() == 0) {
				echo(s);
				_exit(0);
			}
			close(s);
		}
	}
	return 1;
}

/* RFC 1035, as far as it goes: the question comes back with one address. */
static int names(const char *address, const char *reply)
{
	static const unsigned char record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4 };
	int s = at(SOCK_DGRAM, address, 53, 1);
	unsigned char buffer[1024];
	struct sockaddr_storage from;
	socklen_t length = sizeof from;
	ssize_t n;

	if (s < 0)
		return 1;
	puts("ready");
	fflush(stdout);
	while ((n = recvfrom(s, buffer, 512, 0, (void *)&from, &length)) >= 12) {
		buffer[2] |= 0x80;
		buffer[7] = 1;
		memcpy(buffer + n, record, sizeof record);
		inet_pton(AF_INET, reply, buffer + n + sizeof record);
		sendto(s, buffer, n + sizeof record + 4, 0, (void *)&from, length);
		length = sizeof from;
	}
	return 1;
}

static int resolve(const char *server)
{
	static const unsigned char question[] = "\x12\x34\x01\0\0\x01\0\0\0\0\0\0\4name\4test\0\0\1\0\1";
	struct timeval patience = { 5, 0 };
	unsigned char buffer[1024];
	char text[INET_ADDRSTRLEN];
	int s = at(SOCK_DGRAM, server, 53, 0);
	ssize_t n;

	if (s < 0)
		return 1;
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (write(s, question, sizeof question - 1) < 0 || (n = read(s, buffer, sizeof buffer)) < 4 ||
	    buffer[0] != 0x12 || buffer[1] != 0x34) {
		puts(name_of(errno));
		return 1;
	}
	puts(inet_ntop(AF_INET, buffer + n - 4, text, sizeof text));
	return 0;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One label. Each question has its number as id; the last four bytes of an answer are the address. */
static int ask(const char *server, const char *name, int rate, int count)
{
	unsigned char question[300] = "\0\0\x01\0\0\x01\0\0\0\0\0", buffer[1024], last[4] = "";
	int s = at(SOCK_DGRAM, server, 53, 0), length = strlen(name), sent = 0, told = 0, others = 0;
	long start = milliseconds(), heard = start;
	char text[INET_ADDRSTRLEN];

	if (s < 0 || length > 63)
		return 1;
	question[12] = length;
	memcpy(question + 13, name, length);
	memcpy(question + 13 + length, "\0\0\1\0\1", 5);
	while (sent < count || (told < count && milliseconds() - heard < 5000)) {
		struct pollfd wait = { s, POLLIN, 0 };
		long due = start + sent * 1000L / rate - milliseconds();

		if (sent < count && due <= 0) {
			question[0] = sent >> 8;
			question[1] = sent & 255;
			if (write(s, question, 18 + length) < 0)
				return 1;
			sent++;
			continue;
		}
		if (poll(&wait, 1, sent < count ? due : 1000) <= 0)
			continue;
		if (read(s, buffer, sizeof buffer) != 18 + length + 16 || buffer[7] != 1)
			continue;
		heard = milliseconds();
		if (told++ && memcmp(last, buffer + 18 + length + 12, 4))
			others++;
		memcpy(last, buffer + 18 + length + 12, 4);
	}
	printf("%d %d %s\n", told, others, inet_ntop(AF_INET, last, text, sizeof text));
	return 0;
}

/* Sends and receives at once, or both ends could wait for each other. */
static int say(int s, int is_udp, long total)
{
	static char out[16384], in[65536];
	long sent = 0, seen = 0, i;
	struct pollfd fd = { s, POLLIN | POLLOUT, 0 };

	if (s < 0)
		return 1;
	while (seen < total) {
		ssize_t n;

		fd.events = POLLIN | (sent < total && (!is_udp || sent == seen) ? POLLOUT : 0);
		if (poll(&fd, 1, 5000) <= 0) {
			printf("silence after %ld of %ld\n", seen, total);
			return 1;
		}
		if (fd.revents & POLLOUT) {
			long count = total - sent < (long)sizeof out ? total - sent : (long)sizeof out;
			for (i = 0; i < count; i++)
				out[i] = (sent + i) * 31 >> 3;
			if ((n = send(s, out, count, MSG_DONTWAIT)) > 0)
				sent += n;
			else if (errno != EAGAIN)
				break;
		}
		if (fd.revents & (POLLIN | POLLHUP | POLLERR)) {
			if ((n = recv(s, in, sizeof in, MSG_DONTWAIT)) <= 0 && errno != EAGAIN)
				break;
			for (i = 0; i < n; i++)
				if (in[i] != (char)((seen + i) * 31 >> 3)) {
					printf("another byte at %ld\n", seen + i);
					return 1;
				}
			seen += n > 0 ? n : 0;
		}
	}
	if (seen != total)
		puts(name_of(errno));
	return seen != total;
}

static int hold(int count, const char *address, int port, long total)
{
	while (count-- > 0)
		if (say(at(SOCK_STREAM, address, port, 0), 0, total))
			return 1;
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

static int orphan(void)
{
	pid_t child = fork();

	if (child == 0) {
		if (fork() == 0) {
			/* Dies after its parent, so pid 1 is the one to reap it. */
			while (getppid() != 1)
				usleep(1000);
			_exit(0);
		}
		_exit(0);
	}
	waitpid(child, NULL, 0);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

static int swap(const char *a, const char *b)
{
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */) && errno != ENOENT) {
			puts(name_of(errno));
			return 1;
		}
	}
}

static int grow(const char *path)
{
	static char block[65536];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, block, sizeof(block)) < 0)
		return 1;
	puts("ready");
	fflush(stdout);
	for (;;) {
		/* Not without end on the disk of whoever runs the tests. */
		if (lseek(fd, 0, SEEK_END) > (64 << 20))
			usleep(1000);
		else if (write(fd, block, sizeof(block)) < 0)
			return 1;
	}
}

static int direct(const char *path, int count)
{
	enum { SIZE = 256 * 1024 };
	static char block[SIZE] __attribute__((aligned(4096))), seen[SIZE];
	int out = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644), in = open(path, O_RDONLY | O_CLOEXEC);
	aio_context_t context = 0;
	int i, at, stale = 0;
	pid_t reader;

	if (out < 0 || in < 0 || write(out, block, SIZE) != SIZE || syscall(SYS_io_setup, 8, &context)) {
		puts(name_of(errno));
		return 1;
	}
	reader = fork();
	if (!reader)
		for (;;)
			if (pread(in, seen, SIZE, 0) < 0)
				_exit(1);
	for (i = 1; i <= count; i++) {
		struct iocb write_it = { .aio_fildes = out, .aio_lio_opcode = IOCB_CMD_PWRITE,
			.aio_buf = (unsigned long)block, .aio_nbytes = SIZE }, *list = &write_it;
		struct io_event event;

		memset(block, i, SIZE);
		if (syscall(SYS_io_submit, context, 1, &list) != 1 ||
		    syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1 || event.res != SIZE ||
		    pread(in, seen, SIZE, 0) != SIZE) {
			puts("failed");
			return 1;
		}
		for (at = 0; at < SIZE; at += 4096)
			if (seen[at] != (char)i)
				break;
		stale += at < SIZE;
	}
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
	printf("%d\n", stale);
	return 0;
}

static void is_capable(int fd)
{
	struct vfs_ns_cap_data found;

	puts(fgetxattr(fd, "security.capability", &found, sizeof(found)) > 0 ? "capable" : name_of(errno));
}

static int capable(const char *path)
{
	static char block[65536];
	struct vfs_cap_data bind = { .magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
		.data[0].permitted = 1 << CAP_NET_BIND_SERVICE };
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0755);
	char *map;

	if (fd < 0 || write(fd, block, sizeof(block)) != sizeof(block) ||
	    fsetxattr(fd, "security.capability", &bind, sizeof(bind), 0) || fsync(fd)) {
		puts(name_of(errno));
		return 1;
	}
	is_capable(fd);
	map = mmap(NULL, sizeof(block), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return 1;
	map[0] = 1;
	if (msync(map, sizeof(block), MS_SYNC))
		return 1;
	is_capable(fd);
	if (pwrite(fd, block, 1, 0) != 1 || fsync(fd))
		return 1;
	is_capable(fd);
	return 0;
}

/* Whether files of this file system have handles that outlive their fds. */
static int handle(const char *path)
{
	struct {
		struct file_handle head;
		char bytes[MAX_HANDLE_SZ];
	} handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	int mount;

	puts(name_to_handle_at(AT_FDCWD, path, &handle.head, &mount, 0) ? name_of(errno) : "ok");
	return 0;
}

static int execs(const char *directory, int count)
{
	char path[256], *words[] = { "guest", "exit", "7", NULL };
	int round, i, fd, status, done = 0;

	for (round = 0; round < count; round++) {
		pid_t child = fork();

		if (child == 0) {
			for (i = 0; i < 64; i++) {
				snprintf(path, sizeof(path), "%s/none-%d-%d", directory, round, i);
				access(path, F_OK);
			}
			for (i = 0; i < 16; i++) {
				snprintf(path, sizeof(path), "%s/file-%d", directory, i);
				fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
				if (fd < 0 || write(fd, path, sizeof(path)) != sizeof(path))
					_exit(1);
			}
			execv("/proc/self/exe", words);
			_exit(2);
		}
		if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7)
			done++;
	}
	printf("%d\n", done);
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "report";
	int i, fd;

	if (!strcmp(command, "report"))
		return report(argv);
	if (!strcmp(command, "syscalls"))
		return syscalls(argv + 2);
	if (!strcmp(command, "exit") && argc > 2)
		return atoi(argv[2]);
	if (!strcmp(command, "trap") && argc > 3)
		return trap(atoi(argv[2]), atoi(argv[3]));
	if (!strcmp(command, "sleep")) {
		puts("ready");
		fflush(stdout);
		for (;;)
			pause();
	}
	if (!strcmp(command, "lines") && argc > 2) {
		for (i = 0; i < atoi(argv[2]); i++)
			printf("line %d of the output, long enough to be a line of a real log\n", i);
		return 0;
	}
	if (!strcmp(command, "open") && argc > 2) {
		fd = open(argv[2], O_WRONLY | O_CLOEXEC);
		puts(fd < 0 ? name_of(errno) : "ok");
		return 0;
	}
	if (!strcmp(command, "icmp")) {
		puts(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP) < 0 ? name_of(errno) : "ok");
		return 0;
	}
	if (!strcmp(command, "winsize"))
		return winsize();
	if (!strcmp(command, "connect") && argc > 3)
		return connect_to(argv[2], atoi(argv[3]));
	if (!strcmp(command, "serve") && argc > 3)
		return serve(argv[2], atoi(argv[3]));
	if (!strcmp(command, "names") && argc > 3)
		return names(argv[2], argv[3]);
	if (!strcmp(command, "resolve") && argc > 2)
		return resolve(argv[2]);
	if (!strcmp(command, "ask") && argc > 5)
		return ask(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
	if (!strcmp(command, "say") && argc > 5) {
		int is_udp = !strcmp(argv[2], "udp");
		if (say(at(is_udp ? SOCK_DGRAM : SOCK_STREAM, argv[3], atoi(argv[4]), 0), is_udp, atol(argv[5])))
			return 1;
		puts("ok");
		return 0;
	}
	if (!strcmp(command, "hold") && argc > 5)
		return hold(atoi(argv[2]), argv[3], atoi(argv[4]), atol(argv[5]));
	if (!strcmp(command, "swap") && argc > 3)
		return swap(argv[2], argv[3]);
	if (!strcmp(command, "grow") && argc > 2)
		return grow(argv[2]);
	if (!strcmp(command, "direct") && argc > 3)
		return direct(argv[2], atoi(argv[3]));
	if (!strcmp(command, "capable") && argc > 2)
		return capable(argv[2]);
	if (!strcmp(command, "handle") && argc > 2)
		return handle(argv[2]);
	if (!strcmp(command, "execs") && argc > 3)
		return execs(argv[2], atoi(argv[3]));
	if (!strcmp(command, "orphan"))
		return orphan();
	fprintf(stderr, "guest: what is %s?\n", command);
	return 64;
}
