# $1 is the number of versions that are installed after this: 1 at a first installation.
systemd-sysusers edge.conf
systemd-tmpfiles --create edge.conf || :
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
[ "$1" -ge 2 ] || exit 0
if systemctl -q is-active edge.service; then
    edge-ctl upgrade || echo "edge: the daemon goes on with the version before; 'edge-ctl upgrade' tries again" >&2
fi
systemctl try-restart edge-decap.service || :
