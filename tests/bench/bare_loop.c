/* bare_loop SECONDS - one thread drives both ends of a loopback TCP connection, one byte each way: the least that a
 * request and its response can cost on this machine, with no wake-up in it. Prints round trips per second. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), a = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&at, &len) ||
        connect(a, (struct sockaddr *)&at, len))
        return 1;
    int b = accept(listener, NULL, NULL);
    setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    double from = now_s(), to = from;
    long trips = 0;
    char c = 0;
    while ((to = now_s()) - from < seconds) {
        for (int i = 0; i < 100; i++, trips++)
            if (send(a, &c, 1, 0) != 1 || recv(b, &c, 1, 0) != 1 || send(b, &c, 1, 0) != 1 || recv(a, &c, 1, 0) != 1)
                return 1;
    }
    printf("%.1f\n", (double)trips / (to - from));
    return 0;
}
