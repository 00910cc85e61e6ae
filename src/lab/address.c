#include "lab/link.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* The addresses, the same in every lab:
 *   fabric     172.30.0.0/16     fd00:10:30::/64        .0.1 the fabric's bridge; node n is .0.n+10
 *   pods       10.240.0.0/12     fd00:10:244::/48       a /22, or a /64, for each node, the first 10.244.0.0,
 *                                                       those after 10.255.252.0 from 10.240.0.0; slot 1 is the
 *                                                       node's bridge
 *   networks   172.16.0.0/16 …   fd00:10:17:N::/64      secondary networks, the first 172.16.0.0/16; pod p is .0.p+10
 *   Services   10.96.0.0/12      fd00:10:96::/108       idle ones from 10.100.0.1 */

/* `v4`, or fd00:10:B:C::D with the words in hex */
static void set(struct kn_ip *ip, int family, uint32_t v4, uint16_t b, unsigned c, unsigned d)
{
    uint32_t network = htonl(v4);
    uint16_t words[8] = {htons(0xfd00),     htons(0x10), htons(b), htons((uint16_t)c), 0, 0, htons((uint16_t)(d >> 16)),
                         htons((uint16_t)d)};
    *ip = (struct kn_ip){.family = family};
    if (family == AF_INET)
        memcpy(ip->bytes, &network, 4);
    else
        memcpy(ip->bytes, words, 16);
}

#define QUAD(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

static void fabric(int family, unsigned host, struct kn_ip *ip)
{
    set(ip, family, QUAD(172, 30, 0, 0) + host, 0x30, 0, host);
}

void kn_lab_fabric_ip(int family, struct kn_ip *ip)
{
    fabric(family, 1, ip);
}
void kn_lab_node_ip(unsigned node, int family, struct kn_ip *ip)
{
    fabric(family, node + 10, ip);
}

void kn_lab_pod_ip(unsigned node, unsigned slot, int family, struct kn_ip *ip)
{
    uint32_t range = (QUAD(0, 4, 0, 0) + ((node - 1) << 10)) & QUAD(0, 15, 255, 255);
    set(ip, family, QUAD(10, 240, 0, 0) + range + slot, 0x244, node, slot);
}

void kn_lab_pod_range(unsigned node, int family, struct kn_ip *ip)
{
    kn_lab_pod_ip(node, 0, family, ip);
}

void kn_lab_network_ip(unsigned network, unsigned pod, int family, struct kn_ip *ip)
{
    set(ip, family, QUAD(172, 15, 0, 0) + (network << 16) + 10 + pod, 0x17, network, 10 + pod);
}

void kn_lab_service_ip(unsigned service, int family, struct kn_ip *ip)
{
    set(ip, family, QUAD(10, 96, 0, 9) + service, 0x96, 0, 9 + service);
}

void kn_lab_idle_ip(unsigned i, int family, struct kn_ip *ip)
{
    set(ip, family, QUAD(10, 100, 0, 1) + i, 0x96, 0, 0x10001 + i);
}

unsigned kn_lab_range_bits(int family)
{
    return family == AF_INET ? 22 : 64;
}
unsigned kn_lab_fabric_bits(int family)
{
    return family == AF_INET ? 16 : 64;
}
unsigned kn_lab_host_bits(int family)
{
    return family == AF_INET ? 32 : 128;
}

/* A locally administered address. */
void kn_lab_mac(unsigned kind, unsigned number, struct kn_mac *mac)
{
    *mac = (struct kn_mac){
        {0x0a, 0x58, (uint8_t)kind, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number}};
}

char *kn_ip_text(const struct kn_ip *ip, char *buf, size_t size)
{
    if (!ip->family || !inet_ntop(ip->family, ip->bytes, buf, (socklen_t)size))
        snprintf(buf, size, "none");
    return buf;
}

json_t *kn_ip_list(const struct kn_ip ip[2])
{
    char text[LAB_IP_TEXT];
    json_t *list = json_array();
    for (int i = 0; i < 2; i++)
        if (ip[i].family)
            json_array_append_new(list, json_string(kn_ip_text(&ip[i], text, sizeof text)));
    return list;
}
