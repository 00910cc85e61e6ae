#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "meter/meter.h"

/* An older kernel fills less of the struct, the rest stays 0; what must be there has been since 2.6. */
static int tcp_info(int fd, struct tcp_info *info)
{
    socklen_t size = sizeof *info;
    memset(info, 0, sizeof *info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size))
        return -1;
    return size > offsetof(struct tcp_info, tcpi_total_retrans) ? 0 : -1;
}

uint64_t kn_tcp_mss(int fd)
{
    struct tcp_info info;
    return tcp_info(fd, &info) ? 0 : info.tcpi_snd_mss;
}

void kn_tcp_info_add(int fd, struct kn_figures *f)
{
    struct tcp_info info;
    if (tcp_info(fd, &info))
        return;
    f->has |= KN_HAS_TCP;
    f->tcp_n++;
    f->retransmits += info.tcpi_total_retrans;
    /* RFC 2883, since Linux 4.19. BBR and reordering make many, on paths that lose nothing. */
    f->needless += info.tcpi_dsack_dups < info.tcpi_total_retrans ? info.tcpi_dsack_dups : info.tcpi_total_retrans;
    f->segments +=
        info.tcpi_data_segs_out; /* since Linux 4.6; segments of a large packet each for itself, and those sent again */
    f->rtt_ns += info.tcpi_rtt * KN_NS_PER_US;
    f->cwnd += info.tcpi_snd_cwnd;
    if (info.tcpi_snd_mss && (f->mss == 0 || info.tcpi_snd_mss < f->mss))
        f->mss = info.tcpi_snd_mss;
}
