#!/bin/bash
# PID 1 of a lab guest with systemd: makes a system of the host's files, hands over to its systemd.
#
# What the system writes lies on its last disk, over the host's read-only files (overlayfs), so it
# is there again at the next boot: enabled units, /etc/fstab, /var. udevd runs, and lvm2 works as
# on any Debian. The project is at /opt/project, as units may not see /tmp or /home. The command
# of init.sh, with its events, is lab.service; it starts when the boot is over.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs -o mode=755 tmp /mnt
mkdir -p /mnt/{disk,root} /mnt/modules/lib/modules
# /lib/modules may be absent on the host.
ln -s "/usr/lib/uml/modules/$(uname -r)" /mnt/modules/lib/modules/
modprobe -d /mnt/modules -a overlay ext4
blkid "$LAB_SYSTEM_DISK" >/dev/null || mkfs.ext4 -qF "$LAB_SYSTEM_DISK"
mount "$LAB_SYSTEM_DISK" /mnt/disk
is_new=0
[ -d /mnt/disk/upper ] || is_new=1
mkdir -p /mnt/disk/{upper,work}
R=/mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/disk/upper,workdir=/mnt/disk/work overlay $R ||
    { echo "init: no overlay"; sleep 1; exit 1; }

mkdir -p $R/oldroot $R/opt/project $R/lib/modules
mount --bind "$LAB_PROJECT" $R/opt/project
mount --bind /usr/lib/uml/modules $R/lib/modules
mount -t devtmpfs dev $R/dev
mkdir -p $R/dev/pts $R/dev/shm
mount -t tmpfs -o mode=755 run $R/run
mkdir -p $R/run/lab/{out,tmp,m}
mount -t hostfs -o "$LAB/out" out $R/run/lab/out 2>/dev/null ||
    mount -t hostfs -o "hostfs=$LAB/out" out $R/run/lab/out ||
    { echo "init: no window to the host"; sleep 1; exit 1; }

cat > $R/run/lab/environment <<X
LAB_EVENTS=/run/lab/out/events
PYTHONPATH=/opt/project
PYTHONDONTWRITEBYTECODE=1
PYTHONUNBUFFERED=1
TMPDIR=/run/lab/tmp
LC_ALL=C.UTF-8
HOME=/root
X
cat > $R/run/lab/run <<X
#!/bin/bash
event() { echo "\$1" >> "\$LAB_EVENTS"; sync "\$LAB_EVENTS"; }
( sleep $LAB_LIMIT_S; echo "over the limit of $LAB_LIMIT_S s"; echo c > /proc/sysrq-trigger ) &
event '{"event": "up"}'
mapfile -d '' -t command < "$LAB/command"
command[0]=/opt/project/.venv/bin/python
cd /run/lab/tmp
"\${command[@]}"
event "{\"event\": \"exit\", \"status\": \$?}"
X

if [ $is_new = 1 ]; then
    : > $R/etc/fstab
    echo 0123456789abcdef0123456789abcdef > $R/etc/machine-id
    D=$R/etc/systemd/system
    mkdir -p $D
    find $D -mindepth 1 -maxdepth 1 -name '*.wants' -exec rm -rf {} +
    cat > $D/lab.target <<X
[Unit]
Requires=multi-user.target
After=multi-user.target
Wants=lab.service
AllowIsolate=yes
X
    cat > $D/lab.service <<X
[Unit]
After=multi-user.target
[Service]
EnvironmentFile=/run/lab/environment
ExecStart=/bin/bash /run/lab/run
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
X
    # What takes seconds here and says nothing of this project.
    for unit in systemd-tmpfiles-setup systemd-tmpfiles-clean systemd-sysusers systemd-update-utmp \
        systemd-timesyncd systemd-networkd systemd-resolved systemd-random-seed systemd-logind \
        systemd-journal-flush systemd-journal-catalog-update systemd-binfmt e2scrub_reap ; do
        ln -sf /dev/null $D/$unit.service
    done
    ln -sf /dev/null $D/tmp.mount
    ln -sf /dev/null $D/getty.target
    printf 'activation { monitoring=0 }\nbackup { backup=0 archive=0 }\n' > $R/etc/lvm/lvmlocal.conf
fi
umount /proc /sys
cd $R && pivot_root . oldroot
exec chroot . /lib/systemd/systemd --unit=lab.target --show-status=0 --log-target=console \
    --log-level=warning </dev/console >/dev/console 2>&1
