#!/bin/sh
# cdef.sh knbl.h >lua/knbl/cdef.lua - the header as LuaJIT reads it: declarations only, for its parser has no
# preprocessor.
echo '--- Made from src/knbl.h by src/abi/cdef.sh ("make lua/knbl/cdef.lua"); not to be edited.'
echo 'return [['
awk '
    { # comments out, also those over several lines
        text = ""
        line = $0
        while (line != "") {
            if (inside) { at = index(line, "*/"); if (!at) break; line = substr(line, at + 2); inside = 0; continue }
            at = index(line, "/*")
            if (!at) { text = text line; break }
            text = text substr(line, 1, at - 1); line = substr(line, at + 2); inside = 1
        }
        sub(/[ \t]+$/, "", text)
    }
    text ~ /^#ifdef __cplusplus/ { foreign = 1 }
    text ~ /^#/ { if (text ~ /^#endif/) foreign = 0; next }
    !foreign && text != ""  { print text }
' "$1"
echo ']]'
