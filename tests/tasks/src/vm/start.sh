# What a guest does once it has the host's files; its exit code goes to /out/rc.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
# The kernel starts this by its path when it wants a module, and so do tests.
mkdir -p /sbin
rm -f /sbin/modprobe
printf '#!/bin/sh\nexec @MODPROBE@ "$@"\n' >/sbin/modprobe
chmod +x /sbin/modprobe
echo /sbin/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
for module in veth virtio_net vmxnet3 macvlan 8021q; do modprobe $module; done
# Addresses are usable at once.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
sh /out/script >/out/log 2>&1 </dev/null
echo $? >/out/rc
dmesg >/out/dmesg 2>/dev/null
sync
echo b >/proc/sysrq-trigger
sleep 10
