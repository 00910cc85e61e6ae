#!/bin/sh
# root.sh PROGRAM ROOT UNITS - the files that the .deb and the .rpm have in common: the program, its manual page,
# completions, the unit of the standing agent in the folder UNITS, the scenarios and the documents.
set -eu
program=$1 root=$2 units=$3
doc=$root/usr/share/doc/knbl
put() { install -D -m "$1" "$2" "$3"; }
rm -rf "$root"
put 755 "$program" "$root/usr/bin/knbl"
put 644 build/knbl.1 "$root/usr/share/man/man1/knbl.1"
gzip -9n "$root/usr/share/man/man1/knbl.1"
put 644 build/knbl.bash "$root/usr/share/bash-completion/completions/knbl"
put 644 build/knbl.zsh "$root/usr/share/zsh/vendor-completions/_knbl"
put 644 build/knbl.fish "$root/usr/share/fish/vendor_completions.d/knbl.fish"
put 644 packaging/knbl-agent.service "$root$units/knbl-agent.service"
put 644 README.md "$doc/README.md"
for page in docs/*.md docs/*.svg docs/*.json; do put 644 "$page" "$doc/docs/${page#docs/}"; done
for scenario in scenarios/*.lua; do put 644 "$scenario" "$doc/examples/${scenario#scenarios/}"; done
# tokens of the standing agent stay root's
install -d -m 700 "$root/etc/knbl"
