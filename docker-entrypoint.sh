#!/bin/sh
# Runs dispatchd as its own user. Started as root, as the seed's command line does, it first makes the volume that user's:
# a folder of the host that the container engine has made belongs to root.
set -e
if [ "$(id -u)" = 0 ]; then
    find /data/dispatchd ! -user dispatchd -exec chown dispatchd: {} +
    exec setpriv --reuid=dispatchd --regid=dispatchd --init-groups --inh-caps=-all -- "$0" "$@"
fi
exec dispatchd "$@"
