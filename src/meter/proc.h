/* meter/proc - parses the tables of /proc. Each function returns a value or KN_ABSENT, and accepts text that is cut or
 * no such table at all. For the meter's own files, their tests and their fuzz target. */
#ifndef KN_METER_PROC_H
#define KN_METER_PROC_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "meter/meter.h"

uint64_t kn_proc_number(const char *text); /* the number at the start of the text */

/* /proc/stat: each CPU's time in ticks. User includes nice, system hard interrupts, and idle waiting for disks. */
enum kn_cpu_kind { KN_CPU_USER, KN_CPU_SYSTEM, KN_CPU_SOFTIRQ, KN_CPU_STEAL, KN_CPU_IDLE, KN_CPU_KINDS };
/* Reads the line of a CPU, or the first line, with the totals. */
void kn_proc_cpu(const char *line, uint64_t ticks[KN_CPU_KINDS]);
/* Fills ticks[cpu * KN_CPU_KINDS + kind] for the CPUs below `cpus`. Returns the highest CPU number plus one. */
unsigned kn_proc_cpus(const char *text, uint64_t *ticks, unsigned cpus);

/* /proc/net/snmp and netstat: pairs of lines, "GROUP: NAME…" and "GROUP: NUMBER…". */
uint64_t kn_proc_pair(const char *text, const char *group, const char *name);
/* /proc/net/sockstat: "GROUP: NAME NUMBER NAME NUMBER…". */
uint64_t kn_proc_word(const char *text, const char *group, const char *name);
/* "NAME  NUMBER" at the start of a line: /proc/meminfo ("MemFree:"), /proc/net/snmp6. */
uint64_t kn_proc_line(const char *text, const char *name);
/* /proc/net/softnet_stat: a line of hexadecimal numbers for each CPU; the sum of a column. */
uint64_t kn_proc_hex_column(const char *text, unsigned column);
/* /proc/net/stat/nf_conntrack: the same with a header line of names. */
uint64_t kn_proc_hex_named(const char *text, const char *name);

/* /proc/net/dev. Reads the interface at `text` and returns the position of the next; NULL at the end. */
enum {
    KN_DEV_RX_BYTES,
    KN_DEV_RX_PACKETS,
    KN_DEV_RX_ERRORS,
    KN_DEV_RX_DROPS,
    KN_DEV_TX_BYTES = 8,
    KN_DEV_TX_PACKETS,
    KN_DEV_TX_ERRORS,
    KN_DEV_TX_DROPS,
    KN_DEV_COUNTERS = 16
};
const char *kn_proc_interface(const char *text, char name[IF_NAMESIZE], uint64_t counters[KN_DEV_COUNTERS]);

#endif
