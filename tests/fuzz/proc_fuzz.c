/* The tables of /proc: any text gives numbers or nothing, and no table is read beyond its end. */
#include <stdlib.h>
#include <string.h>

#include "meter/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t ticks[4 * KN_CPU_KINDS], counters[KN_DEV_COUNTERS];
    char name[IF_NAMESIZE], *text = malloc(size + 1);
    size_t interfaces = 0;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    demand(kn_proc_cpus(text, ticks, 4) <= 65536);
    kn_proc_number(text);
    kn_proc_pair(text, "Tcp:", "RetransSegs");
    kn_proc_word(text, "TCP:", "mem");
    kn_proc_line(text, "MemAvailable:");
    kn_proc_hex_column(text, 2);
    kn_proc_hex_named(text, "drop");
    for (const char *at = text; (at = kn_proc_interface(at, name, counters));) {
        demand(name[0] && strlen(name) < IF_NAMESIZE);
        demand(++interfaces <= size);
    }
    free(text);
    return 0;
}
