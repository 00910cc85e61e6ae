-- knbl.base.script - shell that starts a program where it may not be executed as it lies: in a pod whose volumes, or
-- on a host whose folders are mounted noexec. POSIX sh; what else it needs it looks for.
local M = {}

-- From a memfd, which no mount option reaches: perl or python3 makes it. $1 is the program, what follows its arguments.
-- Ends with 126 where neither is there.
local PERL = [[my ($nr, $file, @args) = @ARGV; my $name = "knbl-agent"; my $fd = syscall($nr, $name, 0);
die "memfd: $!\n" if $fd < 0; open(my $in, "<:raw", $file) or die "$file: $!\n"; open(my $out, ">&=:raw", $fd) or die;
local $/; my $all = <$in>;
while (length $all) { my $n = syswrite($out, $all) or die "memfd: $!\n"; $all = substr($all, $n) }
exec { "/proc/self/fd/$fd" } "knbl-agent", @args; die "memfd: $!\n";]]
local PYTHON = [[import os, sys
fd = os.memfd_create("knbl-agent")
with open(sys.argv[1], "rb") as f, os.fdopen(os.dup(fd), "wb") as out: out.write(f.read())
os.execv("/proc/self/fd/%d" % fd, ["knbl-agent"] + sys.argv[2:])]]

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
M.quote = quote

M.memfd = ([[case $(uname -m) in x86_64) nr=319 ;; *) nr=279 ;; esac
if command -v perl >/dev/null; then exec perl -e %s "$nr" "$@"; fi
if command -v python3 >/dev/null; then exec python3 -c %s "$@"; fi
echo "knbl: nothing can be executed here, and there is no perl or python3 that could run it from memory" >&2; exit 126
]]):format(quote(PERL), quote(PYTHON))

-- $1 is the program, $2 where it is copied to, what follows its arguments. Where nothing can be executed there either,
-- it runs from a memfd.
M.copy_and_run = [[cat "$1" >"$2" && chmod 0500 "$2" || exit 126
program=$2; shift 2
if "$program" --help >/dev/null 2>&1; then exec "$program" "$@"; fi
set -- "$program" "$@"
]] .. M.memfd

return M
