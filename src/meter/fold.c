#include "meter/fold.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

#define NAME_MAX_BYTES 200
#define SLOTS (2 * KN_FOLD_NODES) /* powers of two: the tables are never more than half full */
#define FRAME_SLOTS (2 * KN_FOLD_FRAMES)

struct frame {
    char kind;
    char *name;
    void *in;
    uint64_t offset;
}; /* name NULL: a place, not named yet */
/* A parent comes before its children, so that one pass from the end sums up totals. */
struct node {
    uint32_t parent, frame;
    double self, total;
};

struct kn_fold {
    struct frame frames[KN_FOLD_FRAMES];
    struct node nodes[KN_FOLD_NODES]; /* 0 is the root */
    uint32_t n_frames, n_nodes;
    uint32_t frame_slots[FRAME_SLOTS], node_slots[SLOTS]; /* 0: empty */
    double cut, all;
    bool lost; /* a name, for want of memory */
};

struct kn_fold *kn_fold_new(struct kn_error *err)
{
    struct kn_fold *fold = calloc(1, sizeof *fold); /* untouched pages take no memory */
    if (!fold)
        return kn_null(kn_fail_memory(err));
    fold->n_frames = fold->n_nodes = 1;
    return fold;
}

void kn_fold_free(struct kn_fold *fold)
{
    if (!fold)
        return;
    for (uint32_t i = 1; i < fold->n_frames; i++)
        free(fold->frames[i].name);
    free(fold);
}

/* ---- names ---- */

static uint32_t hash(const void *bytes, size_t size, uint32_t h)
{
    for (const unsigned char *at = bytes; size; size--, at++)
        h = (h ^ *at) * 16777619u;
    return h ^ h >> 15;
}

/* The length without the suffixes that compilers add to parts of a function: f.isra.0, f.cold. */
static size_t own_length(const char *name)
{
    static const char *const tails[] = {".isra.", ".constprop.", ".part.", ".cold", ".llvm."};
    size_t length = strnlen(name, NAME_MAX_BYTES);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        const char *tail = strstr(name, tails[i]);
        if (tail && tail > name && (size_t)(tail - name) < length)
            length = (size_t)(tail - name);
    }
    return length;
}

uint32_t kn_fold_frame(struct kn_fold *fold, char kind, const char *name)
{
    /* names come from untrusted files and processes: keep one line of ASCII */
    char buf[NAME_MAX_BYTES + 1];
    size_t length = kind == 'p' ? strnlen(name, NAME_MAX_BYTES) : own_length(name);
    for (size_t i = 0; i < length; i++)
        buf[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
    buf[length] = 0;
    uint32_t slot = hash(buf, length, 2166136261u ^ (unsigned char)kind) % FRAME_SLOTS;
    for (uint32_t i; (i = fold->frame_slots[slot]); slot = (slot + 1) % FRAME_SLOTS)
        if (fold->frames[i].kind == kind && fold->frames[i].name && strcmp(fold->frames[i].name, buf) == 0)
            return i;
    if (fold->n_frames == KN_FOLD_FRAMES)
        return 0;
    if (!(fold->frames[fold->n_frames].name = strdup(buf))) {
        fold->lost = true;
        return 0;
    }
    fold->frames[fold->n_frames].kind = kind;
    return fold->frame_slots[slot] = fold->n_frames++;
}

uint32_t kn_fold_place(struct kn_fold *fold, void *in, uint64_t offset)
{
    uint64_t key[2] = {(uint64_t)(uintptr_t)in, offset};
    uint32_t slot = hash(key, sizeof key, 2166136261u) % FRAME_SLOTS;
    for (uint32_t i; (i = fold->frame_slots[slot]); slot = (slot + 1) % FRAME_SLOTS)
        if (!fold->frames[i].name && fold->frames[i].in == in && fold->frames[i].offset == offset)
            return i;
    if (fold->n_frames == KN_FOLD_FRAMES)
        return 0;
    fold->frames[fold->n_frames] = (struct frame){.kind = 'u', .in = in, .offset = offset};
    return fold->frame_slots[slot] = fold->n_frames++;
}

/* ---- the tree ---- */

/* Finds or adds the child of a node with a frame; 0: no more room. */
static uint32_t child(struct kn_fold *fold, uint32_t parent, uint32_t frame)
{
    uint32_t key[2] = {parent, frame};
    uint32_t slot = hash(key, sizeof key, 2166136261u) % SLOTS;
    for (uint32_t i; (i = fold->node_slots[slot]); slot = (slot + 1) % SLOTS)
        if (fold->nodes[i].parent == parent && fold->nodes[i].frame == frame)
            return i;
    if (fold->n_nodes == KN_FOLD_NODES)
        return 0;
    fold->nodes[fold->n_nodes] = (struct node){.parent = parent, .frame = frame};
    return fold->node_slots[slot] = fold->n_nodes++;
}

void kn_fold_add(struct kn_fold *fold, const uint32_t *frames, size_t n, double weight)
{
    uint32_t at = 0, next = 0;
    fold->all += weight;
    for (size_t i = 0; i < n; i++, at = next)
        if (!frames[i] || !(next = child(fold, at, frames[i]))) {
            fold->cut += weight;
            break;
        }
    fold->nodes[at].self += weight;
}

static uint32_t named(struct kn_fold *to, const struct frame *f, const char *(*name_of)(void *, uint64_t))
{
    return kn_fold_frame(to, f->kind, f->name ? f->name : name_of(f->in, f->offset));
}

struct kn_fold *kn_fold_named(const struct kn_fold *fold, const char *(*name_of)(void *in, uint64_t offset),
                              struct kn_error *err)
{
    struct kn_fold *to = kn_fold_new(err);
    uint32_t *at = calloc(fold->n_nodes, sizeof *at);
    if (!to || !at) {
        kn_fail_memory(err);
        kn_fold_free(to);
        free(at);
        return NULL;
    }
    for (uint32_t i = 0; i < fold->n_nodes; i++) {
        const struct node *n = &fold->nodes[i];
        uint32_t parent = at[n->parent], frame = i ? named(to, &fold->frames[n->frame], name_of) : 0;
        bool again = i && parent && to->nodes[parent].frame == frame && to->frames[frame].name[0] == '[' &&
                     to->frames[frame].kind == 'u';
        if (i)
            at[i] = again ? parent : frame ? child(to, parent, frame) : parent;
        to->nodes[at[i]].self += n->self;
    }
    to->lost |= fold->lost;
    to->cut = fold->cut;
    to->all = fold->all;
    free(at);
    return to;
}

/* ---- the result ---- */

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* The least total of the `keep` largest nodes; 0 if all are kept, NAN without memory. A node's total is never less than
 * its children's, so that the kept nodes are a tree. */
static double least_kept(const struct kn_fold *fold, size_t keep)
{
    if (fold->n_nodes <= keep)
        return 0;
    double *totals = malloc(fold->n_nodes * sizeof *totals), least;
    if (!totals)
        return NAN;
    for (uint32_t i = 0; i < fold->n_nodes; i++)
        totals[i] = fold->nodes[i].total;
    qsort(totals, fold->n_nodes, sizeof *totals, compare);
    least = nextafter(totals[keep], INFINITY); /* ties with the first one too many are dropped too */
    free(totals);
    return least;
}

static void sum_up(struct kn_fold *fold)
{
    for (uint32_t i = 0; i < fold->n_nodes; i++)
        fold->nodes[i].total = fold->nodes[i].self;
    for (uint32_t i = fold->n_nodes - 1; i > 0; i--)
        fold->nodes[fold->nodes[i].parent].total += fold->nodes[i].total;
}

/* Moves the samples of small branches to the node above them. */
static double prune(struct kn_fold *fold, double least)
{
    double moved = 0;
    for (uint32_t i = fold->n_nodes - 1; i > 0; i--) {
        struct node *n = &fold->nodes[i];
        if (n->total >= least)
            continue;
        fold->nodes[n->parent].self += n->self;
        moved += n->self;
        n->self = 0;
    }
    return moved;
}

static json_t *number(double value)
{
    double whole = round(value);
    return fabs(value - whole) < 1e-6 ? json_integer((json_int_t)whole) : json_real(round(value * 1000) / 1000);
}

struct numbers {
    uint32_t nodes[KN_FOLD_NODES], frames[KN_FOLD_FRAMES];
};

/* Numbers frames in order of use, so that frames of pruned nodes are left out. */
static void put_nodes(const struct kn_fold *fold, double least, double scale, struct numbers *given, json_t *into)
{
    char kinds[KN_FOLD_FRAMES + 1];
    json_t *frames = json_array(), *parents = json_array(), *names = json_array(), *counts = json_array();
    uint32_t n_nodes = 0, n_frames = 0;
    for (uint32_t i = 1; i < fold->n_nodes; i++) {
        const struct node *n = &fold->nodes[i];
        if (n->total < least || n->total <= 0)
            continue;
        given->nodes[i] = ++n_nodes;
        if (!given->frames[n->frame]) {
            kn_json_append(frames, json_string(fold->frames[n->frame].name));
            kinds[n_frames] = fold->frames[n->frame].kind;
            given->frames[n->frame] = ++n_frames;
        }
        kn_json_append(parents, json_integer(given->nodes[n->parent]));
        kn_json_append(names, json_integer(given->frames[n->frame] - 1));
        kn_json_append(counts, number(n->self * scale));
    }
    kinds[n_frames] = 0;
    kn_json_set(into, "frames", frames);
    kn_json_set(into, "kinds", json_string(kinds));
    kn_json_set(into, "parents", parents);
    kn_json_set(into, "names", names);
    kn_json_set(into, "counts", counts);
}

int kn_fold_json(struct kn_fold *fold, double scale, size_t keep, json_t *into)
{
    struct numbers *given = calloc(1, sizeof *given);
    unsigned long losses = kn_json_losses();
    sum_up(fold);
    double least = least_kept(fold, keep + 1); /* the root is one of them */
    if (!given || fold->lost || isnan(least)) {
        free(given);
        return -1;
    }
    double cut = prune(fold, least) + fold->cut;
    kn_json_set(into, "cut", json_real(fold->all > 0 ? cut / fold->all : 0));
    put_nodes(fold, least, scale, given, into);
    free(given);
    return kn_json_losses() == losses ? 0 : -1;
}
