#include "core/step.h"

#include <math.h>
#include <stdlib.h>

struct ranked {
    double value, rank;
    size_t at;
};

static int by_value(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->value, y = ((const struct ranked *)b)->value;
    return (x > y) - (x < y);
}

static int by_place(const void *a, const void *b)
{
    size_t x = ((const struct ranked *)a)->at, y = ((const struct ranked *)b)->at;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t n, struct ranked *room)
{
    for (size_t i = 0; i < n; i++)
        room[i].value = values[i];
    qsort(room, n, sizeof *room, by_value);
    return room[(n - 1) / 2].value / 2 + room[n / 2].value / 2;
}

/* Ranks from 1 in the order of the series; equal values share their rank. */
static void rank_all(const double *values, size_t n, struct ranked *all)
{
    for (size_t i = 0; i < n; i++)
        all[i] = (struct ranked){.value = values[i], .at = i};
    qsort(all, n, sizeof *all, by_value);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && all[end].value == all[i].value;)
            end++;
        for (size_t k = i; k < end; k++)
            all[k].rank = (double)(i + 1 + end) / 2;
    }
    qsort(all, n, sizeof *all, by_place);
}

/* Finds where the sum of ranks differs most from its value without a change. For short series Pettitt's bound on p is a
 * little too large, so there are fewer alarms. */
static double find_place(const struct ranked *all, size_t n, size_t *at)
{
    double sum = 0, furthest = -1, size = (double)n;
    for (size_t i = 0; i + 1 < n; i++) {
        sum += 2 * all[i].rank - (size + 1);
        if (fabs(sum) > furthest) {
            furthest = fabs(sum);
            *at = i + 1;
        }
    }
    return fmin(1, 2 * exp(-6 * furthest * furthest / (size * size * size + size * size)));
}

static bool matters(const double *values, size_t n, struct kn_step *s, struct ranked *room, double *away)
{
    s->before = median(values, s->at, room);
    s->after = median(values + s->at, n - s->at, room);
    double change = fabs(s->after - s->before);
    for (size_t i = 0; i < n; i++)
        away[i] = fabs(values[i] - (i < s->at ? s->before : s->after));
    double scatter = 1.4826 * median(away, n, room); /* the standard deviation, for normal noise */
    return change >= KN_STEP_SHARE * fmax(fabs(s->before), fabs(s->after)) && change >= KN_STEP_SCATTER * scatter;
}

bool kn_step_find(const double *values, size_t n, struct kn_step *step)
{
    bool found = false;
    struct ranked *all = n >= KN_STEP_LEAST ? calloc(n, sizeof *all) : NULL;
    double *away = all ? calloc(n, sizeof *away) : NULL;
    if (away) {
        rank_all(values, n, all);
        step->p = find_place(all, n, &step->at);
        found = step->p < KN_STEP_ALPHA && matters(values, n, step, all, away);
    }
    free(all);
    free(away);
    return found;
}
