#!/bin/sh
# standins.sh ARCHIVE - C source with a function for each GnuTLS call that libmicrohttpd.a refers to. The agent speaks
# plain HTTP, so that only gnutls_global_init and gnutls_global_deinit are ever called, and GnuTLS need not be linked.
# Every other one fails: -1 is an error to its callers.
"${NM:-nm}" -u "$1" 2>/dev/null | sed -n 's/^ *U \(gnutls_[a-z0-9_]*\)$/\1/p' | sort -u | while read -r name; do
    case $name in
    gnutls_global_*) result=0 ;;
    *) result=-1 ;;
    esac
    echo "long $name(void); long $name(void) { return $result; }"
done
