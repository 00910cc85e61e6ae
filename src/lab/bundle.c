#include "lab/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* An OCI bundle in a tmpfs of the pod's own mounts, which only the pod sees and which is removed with it. Its root is
 * the machine's, read-only, so that the agent finds its libraries and a command its files. */

extern char **environ;

static json_t *environment(const struct kn_lab_keeper *keeper)
{
    json_t *list = json_array();
    char token[sizeof keeper->options.token + 16];
    for (char **e = environ; e && *e; e++)
        if (strncmp(*e, "KNBL_", 5) != 0)
            json_array_append_new(list, json_string(*e));
    snprintf(token, sizeof token, "KNBL_TOKEN=%s", keeper->options.token);
    json_array_append_new(list, json_string(token));
    return list;
}

/* Network: the namespace in which the runtime is started. All other namespaces are new. */
static json_t *configuration(const struct kn_lab_keeper *keeper, const char *name, const json_t *argv)
{
    return json_pack("{s:s, s:s, s:{s:{s:i,s:i}, s:O, s:o, s:s}, s:{s:s,s:b}, s:[{s:s,s:s,s:s}, {s:s,s:s,s:s}],"
                     " s:{s:[{s:s,s:s}, {s:s}, {s:s}, {s:s}, {s:s}]}}",
                     "ociVersion", "1.0.0", "hostname", name, "process", "user", "uid", 0, "gid", 0, "args", argv,
                     "env", environment(keeper), "cwd", "/", "root", "path", "/", "readonly", 1, "mounts",
                     "destination", "/proc", "type", "proc", "source", "proc", "destination", "/tmp", "type", "tmpfs",
                     "source", "tmpfs", "linux", "namespaces", "type", "network", "path", "/proc/self/ns/net", "type",
                     "pid", "type", "mount", "type", "ipc", "type", "uts");
}

/* /tmp is the sandbox's own: a program in the machine's /tmp is mounted into it. */
static void keep_program(json_t *mounts, const char *program)
{
    if (strncmp(program, "/tmp/", 5) != 0)
        return;
    json_array_append_new(mounts, json_pack("{s:s,s:s,s:s,s:[s,s]}", "destination", program, "type", "bind", "source",
                                            program, "options", "bind", "ro"));
}

int kn_bundle_make(const struct kn_lab_keeper *keeper, const char *name, const json_t *argv, struct kn_error *err)
{
    if (mkdir(LAB_BUNDLE, 0700) && errno != EEXIST)
        return kn_fail_errno(err, "cannot make %s", LAB_BUNDLE);
    if (mount("knbl", LAB_BUNDLE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=16m"))
        return kn_fail_errno(err, "cannot mount the bundle");
    if (mkdir(LAB_BUNDLE "/state", 0700))
        return kn_fail_errno(err, "cannot make the bundle");
    json_t *json = configuration(keeper, name, argv);
    const char *program = json_string_value(json_array_get(argv, 0));
    if (json && program)
        keep_program(json_object_get(json, "mounts"), program);
    int bad = !json || json_dump_file(json, LAB_BUNDLE "/config.json", JSON_COMPACT);
    json_decref(json);
    return bad ? kn_fail_errno(err, "cannot write the bundle") : 0;
}
