#!/bin/busybox sh
# The first process of a guest: the host's / as it is, read-only, below a memory file system that takes what is written. /tmp is
# the host's, too: the checkout may lie there.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for word in $($B cat /proc/cmdline); do
    case $word in edge.modules=*) modules=${word#*=} ;; esac
done
for module in /modules/*; do $B insmod "$module" || echo "insmod $module failed"; done
$B mount -t virtiofs -o ro root /lower
$B mount -t tmpfs -o size=70% tmpfs /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
for folder in proc sys dev run tmp out; do $B mkdir -p /new/$folder; done
$B mount -t proc proc /new/proc
$B mount -t sysfs sys /new/sys
$B mount --move /dev /new/dev
$B mkdir -p /new/dev/shm /new/dev/pts
$B mount -t devpts devpts /new/dev/pts
$B mount -t tmpfs tmpfs /new/dev/shm
$B mount -t tmpfs tmpfs /new/run
$B mount -t bpf bpf /new/sys/fs/bpf
$B mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$B mount -t tracefs tracefs /new/sys/kernel/tracing
$B mount -t virtiofs out /new/out
$B mkdir -p /new/lib/modules
$B mount --bind "/lower$modules" /new/lib/modules
exec $B switch_root /new /bin/sh /out/start
