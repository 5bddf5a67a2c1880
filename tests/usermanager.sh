#!/bin/sh
# A `systemd --user` of its own, with its bus, in namespaces of its own for mounts, processes and cgroups; as root.
# Usage: usermanager.sh HOME; HOME/up appears when it is up, and it lives until its first process is killed.
set -eu
home=$1
if [ "${2:-}" != inside ]; then
    cgroup=/sys/fs/cgroup/jobbroker-test-$$
    [ ! -d /sys/fs/cgroup/unified ] || cgroup=/sys/fs/cgroup/unified/jobbroker-test-$$
    mkdir -p "$cgroup/manager"
    echo "$cgroup" >"$home/cgroup"
    echo $$ >"$cgroup/manager/cgroup.procs"   # the root of the new namespace
    exec unshare --mount --propagation private --pid --fork --cgroup --kill-child "$0" "$home" inside
fi
runtime=/run/user/$(id -u)
mount -t proc proc /proc
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$runtime" /run/systemd/system
chmod 700 "$runtime"
cd /
env -i HOME="$home" PATH="$PATH" XDG_RUNTIME_DIR="$runtime" DBUS_SESSION_BUS_ADDRESS="unix:path=$runtime/bus" \
    container=jobbroker-test LANG=C.UTF-8 "$(command -v systemd || echo /lib/systemd/systemd)" --user --log-target=console &
until XDG_RUNTIME_DIR=$runtime systemctl --user is-system-running 2>/dev/null | grep -qE 'running|degraded'; do
    kill -0 $! || exit 1
    sleep 0.05
done
touch "$home/up"
wait
