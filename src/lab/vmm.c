#include "lab/vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void kn_words_add(struct kn_words *words, const char *format, ...)
{
    va_list list;
    size_t room = sizeof words->text - words->used;
    va_start(list, format);
    int n = vsnprintf(words->text + words->used, room, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= room || words->n == VM_WORDS_MAX) {
        words->failed = true;
        return;
    }
    words->argv[words->n++] = words->text + words->used;
    words->used += (size_t)n + 1;
}

/* "QEMU emulator version 7.2.22 (Debian …)": the first number of the first line, and what is written close to it. */
void kn_vmm_version(const struct kn_vmm *vmm, char version[VM_VERSION_MAX])
{
    char command[128], line[256] = "";
    snprintf(command, sizeof command, "exec %s --version 2>/dev/null </dev/null", vmm->program);
    FILE *pipe = popen(command, "re");
    if (pipe && !fgets(line, sizeof line, pipe)) line[0] = '\0';
    if (pipe) pclose(pipe);
    const char *number = line + strcspn(line, "0123456789");
    int n = (int)strcspn(number, " \n(");
    snprintf(version, VM_VERSION_MAX, "%.*s", *number ? n : VM_VERSION_MAX, *number ? number : "of unknown version");
}
