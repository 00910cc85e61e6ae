#!/bin/sh
# embed.sh TABLE FILE... - an assembler file that holds the files and a table of them: TABLE[] of {name, start, end}.
# The assembler reads the files itself, so this is quick, and nothing is quoted.
table=$1; shift
echo '.section .rodata'
i=0
for f; do
    printf 'n%d: .asciz "%s"\nb%d: .incbin "%s"\ne%d: .byte 0\n' $i "$f" $i "$f" $i
    i=$((i + 1))
done
echo '.section .data.rel.ro, "aw"'
printf '.balign 8\n.global %s\n.hidden %s\n%s:\n' "$table" "$table" "$table"
j=0
while [ $j -lt $i ]; do
    printf '.quad n%d, b%d, e%d\n' $j $j $j
    j=$((j + 1))
done
echo '.quad 0, 0, 0'
echo '.section .note.GNU-stack, "", @progbits'
