/* An agent and a measurement in one process: cc example.c $(pkg-config --cflags --libs knbl) && ./a.out */
#include <stdio.h>
#include <stdlib.h>

#include <knbl.h>

static void give_up(const char *what, const knbl_error *error)
{
    fprintf(stderr, "%s: %s (%s)\n", what, error->message, error->code);
    exit(1);
}

/* Waits for the run and prints its progress ten times a second. */
static void follow(knbl_run *run)
{
    while (!knbl_run_wait(run, 100 * 1000000ull)) {
        knbl_stats stats = {.size = sizeof stats};
        knbl_run_stats(run, &stats);
        fprintf(stderr, "%llu round trips so far\n", (unsigned long long)stats.ops);
    }
}

int main(void)
{
    knbl_error error = {.size = sizeof error};
    char *token = knbl_token();
    knbl_agent_config config = {.size = sizeof config, .listen = "127.0.0.1:0", .token = token, .name = "example"};
    knbl_agent *agent = knbl_agent_start(&config, &error);
    if (!agent)
        give_up("the agent", &error);

    knbl_target target = {.size = sizeof target, .host = "127.0.0.1", .port = knbl_agent_port(agent), .token = token};
    knbl_run *run = knbl_run_start("{\"test\":\"tcp_rr\",\"duration\":\"300ms\",\"size\":64}", &target, &error);
    if (!run)
        give_up("the run", &error);
    follow(run);

    const double percents[] = {50, 99, 99.9};
    uint64_t ns[3];
    if (knbl_run_percentiles(run, percents, ns, 3, &error) < 0)
        give_up("the percentiles", &error);
    for (int i = 0; i < 3; i++)
        printf("p%g %llu ns\n", percents[i], (unsigned long long)ns[i]);

    char *result = knbl_run_result(run, &error); /* the complete result, as JSON */
    if (!result)
        give_up("the result", &error);
    printf("%s\n", result);
    knbl_string_free(result);
    knbl_run_free(run);
    knbl_agent_free(agent);
    knbl_string_free(token);
    return 0;
}
