/* What the servers that fail as they are told share: a thread for each connection, and the ways to end one. */
#ifndef KN_TESTS_NET_FAULTY_H
#define KN_TESTS_NET_FAULTY_H

#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

/* The connection is reset by the close that follows. */
static inline void reset(int fd)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Until the client gives up. */
static inline void stay_silent(int fd)
{
    char rest[4096];
    while (recv(fd, rest, sizeof rest, 0) > 0)
        ;
}

static void (*serve_connection)(int fd);

static inline void *serve_and_close(void *arg)
{
    int fd = (int)(intptr_t)arg;
    serve_connection(fd);
    close(fd);
    return NULL;
}

/* Serves the connections to a listener without end. */
static inline void serve_all(int listener, void (*serve)(int fd))
{
    pthread_t thread;
    serve_connection = serve;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && (pthread_create(&thread, NULL, serve_and_close, (void *)(intptr_t)fd) || pthread_detach(thread)))
            close(fd);
    }
}

#endif
