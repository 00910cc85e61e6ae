/* bare_loop SECONDS [1|2] - one thread drives both ends of a loopback TCP connection, one byte each way: the minimum
 * cost of a request and response on this machine without a wake-up. With 2, a second thread on another CPU answers, and
 * both poll: the minimum on two CPUs. Prints round trips per second.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
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

static void use_cpu(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int ask(int fd, char *c)
{
    ssize_t n;
    while ((n = recv(fd, c, 1, MSG_DONTWAIT)) < 0)
        ;
    return n == 1;
}

static void *answer(void *fd)
{
    char c = 0;
    use_cpu(1);
    while (ask(*(int *)fd, &c) && send(*(int *)fd, &c, 1, MSG_NOSIGNAL) == 1)
        ;
    return NULL;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    int two = argc > 2 && atoi(argv[2]) == 2;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), a = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&at, &len) || connect(a, (struct sockaddr *)&at, len))
        return 1;
    int b = accept(listener, NULL, NULL);
    setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pthread_t other;
    use_cpu(0);
    if (two && pthread_create(&other, NULL, answer, &b))
        return 1;
    double from = now_s(), to = from;
    long trips = 0;
    char c = 0;
    while ((to = now_s()) - from < seconds) {
        for (int i = 0; i < 100; i++, trips++)
            if (send(a, &c, 1, 0) != 1 || (!two && (recv(b, &c, 1, 0) != 1 || send(b, &c, 1, 0) != 1)) || !ask(a, &c))
                return 1;
    }
    printf("%.1f\n", (double)trips / (to - from));
    return 0;
}
