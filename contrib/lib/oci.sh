# Writes OCI image layouts with nothing but coreutils. Sourced by bash.

# A fixed point in time, so that equal contents give equal digests.
export SOURCE_DATE_EPOCH=1700000000

# pack DIR TAR: DIR as a layer, owned by root, the same bytes each time.
pack() {
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -C "$1" -cf "$2" .
}

# blob LAYOUT FILE: moves FILE into the layout and prints "DIGEST SIZE".
blob() {
    local digest size
    digest=$(sha256sum "$2" | cut -d' ' -f1)
    size=$(stat -c %s "$2")
    mkdir -p "$1/blobs/sha256"
    mv "$2" "$1/blobs/sha256/$digest"
    printf '%s %s\n' "$digest" "$size"
}

# layout DIR NAME:TAG CONFIG LAYER.tar...: an image of these layers, bottom
# first. CONFIG is the `config` object of the OCI image config. The layers' files
# are used up.
layout() {
    local dir=$1 name=$2 config=$3; shift 3
    local work layer digest size diff_ids='' layers='' history=''
    work=$(mktemp -d)
    rm -rf "$dir"; mkdir -p "$dir"
    for layer in "$@"; do
        digest=$(sha256sum "$layer" | cut -d' ' -f1)
        diff_ids+="${diff_ids:+,}\"sha256:$digest\""
        history+="${history:+,}{\"created\":\"2023-11-14T22:13:20Z\",\"created_by\":\"ADD ${layer##*/} /\"}"
        gzip -n -6 -c "$layer" >"$work/layer"; rm -f "$layer"
        read -r digest size < <(blob "$dir" "$work/layer")
        layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$digest\",\"size\":$size}"
    done
    printf '{"created":"2023-11-14T22:13:20Z","architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]},"history":[%s]}' \
        "$(dpkg --print-architecture)" "$config" "$diff_ids" "$history" >"$work/config"
    read -r digest size < <(blob "$dir" "$work/config")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' \
        "$digest" "$size" "$layers" >"$work/manifest"
    read -r digest size < <(blob "$dir" "$work/manifest")
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
        "$digest" "$size" "${name#*:}" >"$dir/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
    rm -rf "$work"
}
