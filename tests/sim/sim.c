/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * sim --seed N [--trace]          plays one seed, exactly as before
 * sim --seeds FROM COUNT          plays many
 * sim --soak SECONDS [FROM]       plays as long as told
 *
 * A failure prints the seed, the shortest schedule that still fails, and its trace, and ends the
 * play; with --no-shrink it prints the seed and goes on. --commuting draws only commands that
 * commute, --no-loss no databases that are lost or put back.
 */
#include "sim/play.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    uint64_t from;
    uint64_t count;
    uint64_t seconds; /* 0: count says how many */
    bool trace;
    bool commuting;
    bool no_loss;
    bool shrinks;
};

static uint64_t seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: sim --seed N [--trace] | --seeds FROM COUNT | "
                          "--soak SECONDS [FROM]; and --commuting, --no-loss, --no-shrink\n");
    return 2;
}

static bool number(const char *text, uint64_t *value)
{
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return false;
    }
    *value = strtoull(text, &end, 10);
    return *end == 0;
}

static bool parse(int argc, char **argv, struct options *options)
{
    *options = (struct options){.shrinks = true};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--seed") == 0 && number(next, &options->from)) {
            options->count = 1;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0 && number(next, &options->from) &&
                   i + 2 < argc && number(argv[i + 2], &options->count)) {
            i += 2;
        } else if (strcmp(argv[i], "--soak") == 0 && number(next, &options->seconds)) {
            options->count = UINT64_MAX;
            options->from = (uint64_t)time(NULL) << 20;
            i++;
            if (i + 1 < argc && number(argv[i + 1], &options->from)) {
                i++;
            }
        } else if (strcmp(argv[i], "--trace") == 0) {
            options->trace = true;
        } else if (strcmp(argv[i], "--commuting") == 0) {
            options->commuting = true;
        } else if (strcmp(argv[i], "--no-loss") == 0) {
            options->no_loss = true;
        } else if (strcmp(argv[i], "--no-shrink") == 0) {
            options->shrinks = false;
        } else {
            return false;
        }
    }
    return options->count > 0;
}

static void print_totals(const struct sim_totals *totals, uint64_t seeds, uint64_t failed,
                         double seconds)
{
    printf("sim: %llu seeds, %llu failed; %llu requests, %llu accepted, %llu refused; %llu runs, "
           "%llu of them again, %llu resolved; %llu messages, %llu lost, %llu doubled; %llu "
           "commits; %llu dead-lettered; %llu diverged; faults:",
           (unsigned long long)seeds, (unsigned long long)failed,
           (unsigned long long)totals->requests, (unsigned long long)totals->accepted,
           (unsigned long long)totals->refused, (unsigned long long)totals->runs,
           (unsigned long long)totals->runs_again, (unsigned long long)totals->resolved,
           (unsigned long long)totals->messages, (unsigned long long)totals->lost,
           (unsigned long long)totals->doubled, (unsigned long long)totals->commits,
           (unsigned long long)totals->dead, (unsigned long long)totals->diverged);
    for (int i = SIM_REQUEST + 1; i < SIM_ACTION_KINDS; i++) {
        printf(" %s %llu", sim_action_name((enum sim_action_kind)i),
               (unsigned long long)totals->faults[i]);
    }
    printf("; %.1f h of virtual time in %.1f s\n", (double)totals->virtual_us / 3.6e9, seconds);
}

static void play_all(const struct options *options, struct sim_totals *totals, uint64_t *seeds,
                     uint64_t *failed)
{
    uint64_t begun = seconds_now();
    for (*seeds = 0; *seeds < options->count && (*failed == 0 || !options->shrinks); (*seeds)++) {
        if (options->seconds > 0 && seconds_now() - begun >= options->seconds) {
            break;
        }
        struct sim_schedule schedule;
        struct chp_buf why = {0};
        sim_schedule_draw(&schedule, options->from + *seeds, options->commuting, options->no_loss);
        if (!sim_play_apart(&schedule, totals, options->trace, &why)) {
            (*failed)++;
            printf("seed %llu%s%s FAILS: %s\n", (unsigned long long)schedule.seed,
                   options->commuting ? " --commuting" : "", options->no_loss ? " --no-loss" : "",
                   chp_buf_text(&why));
            (void)fflush(stdout);
            if (options->shrinks) {
                sim_shrink(&schedule, chp_buf_text(&why));
            }
        }
        chp_buf_deinit(&why);
    }
}

int main(int argc, char **argv)
{
    struct options options;
    struct sim_totals totals = {0};
    uint64_t seeds = 0;
    uint64_t failed = 0;
    struct timespec begun;
    struct timespec ended;
    if (!parse(argc, argv, &options)) {
        return usage();
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &begun);
    play_all(&options, &totals, &seeds, &failed);
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    print_totals(&totals, seeds, failed,
                 (double)(ended.tv_sec - begun.tv_sec) +
                     (double)(ended.tv_nsec - begun.tv_nsec) / 1e9);
    return failed == 0 ? 0 : 1;
}
