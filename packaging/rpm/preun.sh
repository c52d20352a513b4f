# $1 is the number of versions that are left after this: 0 at a removal.
[ "$1" -eq 0 ] || exit 0
[ -d /run/systemd/system ] && systemctl -q disable --now edge.service edge-decap.service || :
for pins in /sys/fs/bpf/edge/v*/decap/*; do
    [ -d "$pins" ] && edge-ctl decap --interface "${pins##*/}" --detach || :
done
edge-ctl detach || [ $? = 3 ] || echo "edge: something stays attached: see 'bpftool net'" >&2
