/* Helpers of the lab's tests: requests to a lab, and the test program itself as the program that runs in it:
 *   PROGRAM serve PORT        answers each TCP connection and each datagram with "NAME PEER\n"
 *   PROGRAM ask PROTO HOST PORT…   prints the answers, one line each; "-" for none.
 *                             PROTO: tcp, udp, udp1400 (1400 bytes, sent again if lost),
 *                             tmss (the segment size)
 * Each test file calls inside_main first thing in main. */
#ifndef KN_TESTS_LAB_INSIDE_H
#define KN_TESTS_LAB_INSIDE_H

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/check.h"
#include "core/clock.h"
#include "lab/lab.h"

#define SERVE_PORT 9000
#define TOKEN "0123456789abcdef"

/* ---- inside ---- */

static void peer_line(char *buf, size_t size, const struct sockaddr_in6 *peer)
{
    char host[64], name[80];
    gethostname(name, sizeof name);
    inet_ntop(AF_INET6, &peer->sin6_addr, host, sizeof host);
    snprintf(buf, size, "%s %s\n", name, strncmp(host, "::ffff:", 7) == 0 ? host + 7 : host);
}

static int bound(int type, uint16_t port)
{
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool v6 = fd >= 0;
    if (!v6)
        fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    return bind(fd, (struct sockaddr *)&any, sizeof any) ? -1 : fd;
}

/* Answers from the destination address, because a node has several. */
static void answer_datagram(int fd)
{
    struct sockaddr_in6 peer;
    char line[160], control[128];
    struct iovec io = {line, sizeof line};
    struct msghdr m = {.msg_name = &peer,
                       .msg_namelen = sizeof peer,
                       .msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    if (recvmsg(fd, &m, 0) < 0)
        return;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == IPV6_PKTINFO)
        ((struct in6_pktinfo *)(void *)CMSG_DATA(c))->ipi6_ifindex = 0;
    peer_line(line, sizeof line, &peer);
    io.iov_len = strlen(line);
    sendmsg(fd, &m, MSG_NOSIGNAL);
}

static int serve(uint16_t port)
{
    int udp = bound(SOCK_DGRAM, port), tcp = bound(SOCK_STREAM, port);
    if (tcp < 0 || udp < 0 || listen(tcp, 128))
        return 1;
    for (;;) {
        struct pollfd fds[2] = {{.fd = tcp, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
        poll(fds, 2, -1);
        if (fds[1].revents)
            answer_datagram(udp);
        if (!fds[0].revents)
            continue;
        struct sockaddr_in6 peer;
        socklen_t size = sizeof peer;
        char line[160];
        int fd = accept(tcp, (struct sockaddr *)&peer, &size);
        peer_line(line, sizeof line, &peer);
        send(fd, line, strlen(line), MSG_NOSIGNAL);
        close(fd);
    }
}

/* The first datagram that exceeds the path's MTU is lost, and its sender gets an error. */
static void send_large(int fd)
{
    static const char data[1400];
    struct pollfd answer = {.fd = fd, .events = POLLIN};
    for (int i = 0; i < 10 && !(answer.revents & POLLIN); i++) {
        int error;
        socklen_t size = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size); /* reading the error clears it */
        if (send(fd, data, sizeof data, 0) > 0)
            poll(&answer, 1, 200);
    }
}

static void ask_one(const char *proto, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = proto[0] == 't' ? SOCK_STREAM : SOCK_DGRAM, .ai_flags = AI_NUMERICHOST},
                    *ai;
    char line[160] = "-\n";
    struct timeval patience = {.tv_sec = 2};
    if (getaddrinfo(host, port, &hints, &ai))
        return;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
        (proto[0] == 't' || strcmp(proto, "udp1400") == 0 || send(fd, "x", 1, 0) == 1)) {
        if (strcmp(proto, "udp1400") == 0)
            send_large(fd);
        int mss = 0;
        socklen_t size = sizeof mss;
        if (strcmp(proto, "tmss") == 0 && getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &size) == 0) {
            snprintf(line, sizeof line, "%d\n", mss);
        } else {
            ssize_t n = recv(fd, line, sizeof line - 1, 0);
            snprintf(line + (n > 0 ? n : 0), sizeof line - (size_t)(n > 0 ? n : 0), "%s", n > 0 ? "" : "-\n");
        }
    }
    fputs(line, stdout);
    freeaddrinfo(ai);
    close(fd);
}

static inline void inside_main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        exit(serve((uint16_t)atoi(argv[2])));
    if (argc >= 5 && strcmp(argv[1], "ask") == 0) {
        for (int i = 2; i + 2 < argc; i += 3)
            ask_one(argv[i], argv[i + 1], argv[i + 2]);
        exit(0);
    }
}

/* ---- outside ---- */

static inline const char *self(void)
{
    static char path[512];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    return path;
}

static inline json_t *parse(const char *format, va_list list)
{
    char text[8192];
    json_error_t e;
    vsnprintf(text, sizeof text, format, list);
    json_t *json = json_loads(text, 0, &e);
    if (!json)
        fail_msg("%s: %s", text, e.text);
    return json;
}

/* The answer to a request that must succeed. */
static inline json_t *ask(struct kn_lab *lab, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline json_t *ask(struct kn_lab *lab, const char *format, ...)
{
    struct kn_error err = {.code = KN_OK};
    va_list list;
    va_start(list, format);
    json_t *request = parse(format, list);
    va_end(list);
    json_t *answer = kn_lab_request(lab, request, &err);
    if (!answer)
        fail_msg("%s", err.message);
    json_decref(request);
    return answer;
}

static inline void tell(struct kn_lab *lab, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void tell(struct kn_lab *lab, const char *format, ...)
{
    struct kn_error err = {.code = KN_OK};
    va_list list;
    va_start(list, format);
    json_t *request = parse(format, list), *answer = kn_lab_request(lab, request, &err);
    va_end(list);
    if (!answer)
        fail_msg("%s", err.message);
    json_decref(request);
    json_decref(answer);
}

static inline void refuses(struct kn_lab *lab, enum kn_code code, const char *says, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static inline void refuses(struct kn_lab *lab, enum kn_code code, const char *says, const char *format, ...)
{
    struct kn_error err = {.code = KN_OK};
    va_list list;
    va_start(list, format);
    json_t *request = parse(format, list), *answer = kn_lab_request(lab, request, &err);
    va_end(list);
    if (answer)
        fail_msg("should be refused: %s", says);
    check_refusal(&err, code, says);
    json_decref(request);
}

static inline struct kn_lab *open_lab(const char *options)
{
    struct kn_error err = {.code = KN_OK};
    json_t *json = json_loads(options, 0, NULL);
    struct kn_lab *lab = kn_lab_open(json, &err);
    if (!lab)
        fail_msg("%s: %s", options, err.message);
    json_decref(json);
    return lab;
}

static inline double number(const json_t *json, const char *key)
{
    return json_number_value(json_object_get(json, key));
}

static inline const char *text(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

/* Two nodes with a pod on each. */
static inline struct kn_lab *with_pods(const char *options)
{
    struct kn_lab *lab = open_lab(options);
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"web\",\"node\":\"node-1\"}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"db\",\"node\":\"node-2\"}");
    return lab;
}

/* The program's output in a pod or on a node; "" is the fabric's namespace. */
static inline char *run_in(struct kn_lab *lab, const char *where,
                           const char *words) /* words as JSON strings, with commas */
{
    json_t *answer = *where ? ask(lab, "{\"op\":\"exec\",\"capture\":true,\"in\":\"%s\",\"argv\":[\"%s\",%s]}", where,
                                  self(), words)
                            : ask(lab, "{\"op\":\"exec\",\"capture\":true,\"argv\":[\"%s\",%s]}", self(), words);
    char *text = strdup(json_string_value(json_object_get(answer, "output")));
    json_decref(answer);
    return text;
}

/* Asks one server from `where`; returns its answer without the newline. */
static inline const char *from(struct kn_lab *lab, const char *where, const char *proto, const char *host,
                               unsigned port)
{
    static char answer[256];
    char words[256];
    snprintf(words, sizeof words, "\"ask\",\"%s\",\"%s\",\"%u\"", proto, host, port);
    char *text = run_in(lab, where, words);
    snprintf(answer, sizeof answer, "%.*s", (int)strcspn(text, "\n"), text);
    free(text);
    return answer;
}

#define answers(lab, where, proto, host, port, expected)                                                               \
    do {                                                                                                               \
        const char *got_ = from(lab, where, proto, host, port);                                                        \
        if (strcmp(got_, expected) != 0)                                                                               \
            fail_msg("%s > %s %s:%u: \"%s\" instead of \"%s\"", where, proto, host, (unsigned)(port), got_, expected); \
    } while (0)

/* A pod that runs this program as a server. */
static inline void server(struct kn_lab *lab, const char *name, const char *node, const char *more)
{
    tell(lab, "{\"op\":\"pod\",\"name\":\"%s\",\"node\":\"%s\",\"command\":[\"%s\",\"serve\",\"%d\"],\"port\":%d%s}",
         name, node, self(), SERVE_PORT, SERVE_PORT, more);
}

/* ---- programs that stand in for others ---- */

struct stand_in {
    char folder[32], program[64], *path;
};

/* Puts a shell script with that name into the PATH; `alone`: nothing else is in the PATH. NULL: no script. */
static inline void stand_in_for(struct stand_in *s, const char *name, const char *script, bool alone)
{
    char all[PATH_MAX];
    strcpy(s->folder, "/tmp/knbl-stand-in-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    chmod(s->folder, 0755);
    snprintf(s->program, sizeof s->program, "%s/%s", s->folder, name);
    FILE *file = script ? fopen(s->program, "we") : NULL;
    if (file) {
        fprintf(file, "#!/bin/sh\n%s\n", script);
        fchmod(fileno(file), 0755);
        fclose(file);
    }
    s->path = strdup(getenv("PATH"));
    snprintf(all, sizeof all, "%s:%s", s->folder, s->path);
    setenv("PATH", alone ? s->folder : all, 1);
}

static inline void stand_down(struct stand_in *s)
{
    setenv("PATH", s->path, 1);
    free(s->path);
    unlink(s->program);
    rmdir(s->folder);
}

#endif
