#include "lab/keeper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/addr.h"

/* The orchestrator reaches an agent through a Unix socket in the lab's /run/knbl, which a sandbox does not share: the
 * relay forwards each connection to the agent's port. It runs in the node's namespace, from which pods can be reached,
 * and ends with the pod. Control is a few small messages, so a thread for each connection is fast enough. */

struct pair {
    int near, far;
    struct kn_addr to;
};

/* False: end of file or an error. */
static bool carry(int from, int to)
{
    char data[16384];
    ssize_t n = recv(from, data, sizeof data, 0);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    for (ssize_t done = 0, sent; done < n; done += sent)
        if ((sent = send(to, data + done, (size_t)(n - done), MSG_NOSIGNAL)) < 0)
            return false;
    if (n == 0)
        shutdown(to, SHUT_WR);
    return n > 0;
}

static void *connection(void *arg)
{
    struct pair *pair = arg;
    pair->far = socket(pair->to.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pair->far >= 0 && connect(pair->far, &pair->to.u.sa, pair->to.len) == 0) {
        struct pollfd fds[2] = {{.fd = pair->near, .events = POLLIN}, {.fd = pair->far, .events = POLLIN}};
        while (fds[0].fd >= 0 || fds[1].fd >= 0) {
            if (poll(fds, 2, -1) < 0)
                continue;
            for (int i = 0; i < 2; i++)
                if (fds[i].fd >= 0 && fds[i].revents && !carry(fds[i].fd, i ? pair->near : pair->far))
                    fds[i].fd = -1;
        }
    }
    if (pair->far >= 0)
        close(pair->far);
    close(pair->near);
    free(pair);
    return NULL;
}

void kn_relay_run(int listener, const struct kn_addr *to)
{
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 128u << 10);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return;
        struct pair *pair = fd < 0 ? NULL : malloc(sizeof *pair);
        if (pair)
            *pair = (struct pair){.near = fd, .to = *to};
        if (pair && pthread_create(&thread, &detached, connection, pair)) {
            free(pair);
            pair = NULL;
        }
        if (!pair && fd >= 0)
            close(fd);
    }
}
