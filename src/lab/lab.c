#include "lab/lab.h"

#include "lab/keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct kn_lab {
    int fd; /* -1 once the lab is closed */
    pid_t warden, keeper;
    int stop_fd;
};

/* Turns an answer that is an error into `err`. */
static json_t *unpack(json_t *answer, struct kn_error *err)
{
    const char *code = NULL, *message = NULL;
    if (!answer || json_unpack(answer, "{s:{s:s,s:s}}", "error", "code", &code, "message", &message))
        return answer;
    kn_fail(err, kn_code_from_name(code), "%s", message);
    json_decref(answer);
    return NULL;
}

static json_t *ask(struct kn_lab *lab, const json_t *request, struct kn_error *err)
{
    if (lab->fd < 0)
        return kn_null(kn_fail(err, KN_E_LOST, "the lab is closed"));
    if (kn_frame_send(lab->fd, request, err))
        return NULL;
    return unpack(kn_frame_receive(lab->fd, err), err);
}

int kn_lab_options_check(const json_t *options, struct kn_error *err)
{
    struct kn_lab_options read;
    return kn_lab_options_read(options, &read, err);
}

struct kn_lab *kn_lab_open(const json_t *options, struct kn_error *err)
{
    struct kn_lab_options read;
    int pair[2];
    if (kn_lab_options_read(options, &read, err))
        return NULL;
    struct kn_lab *lab = malloc(sizeof *lab);
    if (!lab || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        kn_fail_errno(err, "cannot open the lab");
        free(lab);
        return NULL;
    }
    *lab = (struct kn_lab){.fd = pair[0], .stop_fd = -1, .warden = kn_warden_start(&read, pair[1], err)};
    close(pair[1]);
    json_t *ready = lab->warden < 0 ? NULL : unpack(kn_frame_receive(lab->fd, err), err);
    json_int_t keeper = 0;
    if (!ready || json_unpack(ready, "{s:I}", "keeper", &keeper)) {
        json_decref(ready);
        kn_lab_close(lab);
        return NULL;
    }
    json_decref(ready);
    lab->keeper = (pid_t)keeper;
    return lab;
}

static json_t *exec(struct kn_lab *lab, const json_t *request, struct kn_error *err)
{
    json_t *question = json_pack("{s:s,s:O?}", "op", "find", "name", json_object_get(request, "in"));
    json_t *where = question ? ask(lab, question, err) : NULL;
    json_t *answer = where ? kn_lab_run(lab->keeper, where, request, lab->stop_fd, err) : NULL;
    json_decref(question);
    json_decref(where);
    return answer;
}

json_t *kn_lab_exec_inside(const json_t *request, struct kn_error *err)
{
    const char *name = json_string_value(json_object_get(request, "in"));
    json_t *where = name ? kn_place_read(name, err) : NULL;
    if (!name)
        kn_fail(err, KN_E_ARGUMENT, "exec requires in, a name");
    json_t *answer = where ? kn_lab_run(0, where, request, -1, err) : NULL;
    json_decref(where);
    return answer;
}

json_t *kn_lab_request(struct kn_lab *lab, const json_t *request, struct kn_error *err)
{
    const char *op = json_string_value(json_object_get(request, "op"));
    if (op && strcmp(op, "exec") == 0 && lab->fd >= 0)
        return exec(lab, request, err);
    return ask(lab, request, err);
}

void kn_lab_stop_fd(struct kn_lab *lab, int fd)
{
    lab->stop_fd = fd;
}

int kn_lab_keeper_pid(const struct kn_lab *lab)
{
    return (int)lab->keeper;
}

/* With PID 1 the kernel ends all other processes, and it is reaped after them. */
void kn_lab_close(struct kn_lab *lab)
{
    if (!lab)
        return;
    close(lab->fd);
    if (lab->warden > 0)
        while (waitpid(lab->warden, NULL, 0) < 0 && errno == EINTR) {
        }
    free(lab);
}
