#!/bin/bash
# PID 1 of a lab guest: mounts what a system has, loads the modules, runs one command, tells its status.
#
# The root file system is the host's, read-only; everything writable is in memory below /run,
# except the window /run/lab/out, which is a directory of the host. LAB (from the kernel's
# command line) is the machine's directory on the host; LAB/command holds the argv, NUL-separated.
# Lines of the file LAB_EVENTS are for the host's program (machine.py), the console is for people.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$LAB_PROJECT TMPDIR=/run/lab/tmp
exec </dev/null

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lab/{out,tmp,m} /run/lab/modules/lib/modules /run/lock/lvm /run/lvm /run/lvmetc
# Linux 6.1 takes the directory as it is, later ones want its name before it.
mount -t hostfs -o "$LAB/out" out /run/lab/out 2>/dev/null ||
    mount -t hostfs -o "hostfs=$LAB/out" out /run/lab/out ||
    { echo "init: no window to the host"; sleep 1; exit 1; }

# Modules: wherever the host keeps them, /lib/modules itself may be absent and can not be made.
ln -s "/usr/lib/uml/modules/$(uname -r)" /run/lab/modules/lib/modules/
export MODPROBE_OPTIONS="-d /run/lab/modules"
modprobe -a loop dm-snapshot dm-delay dm-flakey ext4 xfs && modprobe nbd nbds_max=2 || echo "init: some modules are missing" >&2

# No udevd runs here: device-mapper and lvm2 have to make their nodes by themselves.
export DM_DISABLE_UDEV=1 LVM_SYSTEM_DIR=/run/lvmetc LVM_SUPPRESS_FD_WARNINGS=1
cat > /run/lvmetc/lvm.conf <<'CONF'
activation { udev_sync=0 udev_rules=0 monitoring=0 snapshot_autoextend_threshold=100 }
devices { use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" }
backup { backup=0 archive=0 }
CONF

export LAB_EVENTS=/run/lab/out/events
event() { echo "$1" >> "$LAB_EVENTS"; sync "$LAB_EVENTS"; }
( sleep "$LAB_LIMIT_S"; echo "init: over the limit of $LAB_LIMIT_S s"; echo c > /proc/sysrq-trigger ) &
event '{"event": "up"}'

mapfile -d '' -t command < "$LAB/command"
cd /run/lab/tmp || exit 1
"${command[@]}"
status=$?
sync
stty -F /dev/console -echo    # waits until the console has written everything
event "{\"event\": \"exit\", \"status\": $status}"
while :; do sleep 60; done    # the host ends the machine: what was synced is in its files
