/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Agents that are killed at random instants of their commands, as often as the argument says.
 *
 *     runner_loop KILLS [SEED]
 *
 * An agent here is the shell driver in a process of its own, and a directory in which it commits
 * results by rename. Each round gives an agent some runs and kills it at a random microsecond, now
 * and then with its runners, as a crash of the machine would, or one runner alone; then comes the
 * next agent, which resumes what is not committed. At the end of the round every run must have one
 * result, and every command must have run once (or, where a runner was killed, at most once, and
 * then it is in doubt).
 */
#include "shell/shell_driver.h"
#include "shell/spool.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNS = 4, LIVES_MAX = 4, LAST_LIFE_MS = 60000, SWEEP_MS = 5000 };

enum fault { FAULT_AGENT, FAULT_MACHINE, FAULT_RUNNER, FAULT_COUNT };

struct world {
    char directory[64];
    char spool[96];
    char results[96];
    char ran[96];
    char runner[512];
    uint64_t random;
    uint64_t span_us; /* how long a round takes that nobody disturbs */
    unsigned kills[FAULT_COUNT];
    unsigned doubts;
    unsigned rounds;
    unsigned swept; /* rounds after which there was something to sweep */
};

/* One round: its runs, as the parent of the agents knows them. */
struct round {
    struct chp_uuid ids[RUNS];
    bool runner_killed;
};

struct life {
    const struct world *world;
    const struct round *round;
    struct chp_driver *driver;
    struct event_base *base;
    unsigned left;
};

#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "runner_loop: " __VA_ARGS__);                                    \
            (void)fprintf(stderr, " (%s:%d, errno %d)\n", __FILE__, __LINE__, errno);              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t next_random(struct world *world)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return world->random;
}

static void result_path(const struct world *world, const struct chp_uuid *id, char path[160])
{
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(id, text);
    (void)snprintf(path, 160, "%s/%s", world->results, text);
}

static bool committed(const struct world *world, const struct chp_uuid *id)
{
    char path[160];
    result_path(world, id, path);
    return access(path, F_OK) == 0;
}

/* "STATE output", there whole or not at all. */
static void commit(const struct world *world, const struct chp_completion *completion)
{
    char path[160];
    char temporary[176];
    result_path(world, &completion->operation, path);
    REQUIRE(access(path, F_OK) != 0, "a run has ended twice");
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *out = fopen(temporary, "w");
    REQUIRE(out != NULL, "no result can be written");
    (void)fprintf(out, "%s %.*s%s", chp_state_name(completion->state), (int)completion->output.len,
                  completion->output.len == 0 ? "" : (const char *)completion->output.data,
                  completion->reason == NULL ? "" : completion->reason);
    (void)fclose(out);
    REQUIRE(rename(temporary, path) == 0, "no result can be committed");
}

static void life_on_done(void *user, const struct chp_completion *completion)
{
    struct life *life = user;
    commit(life->world, completion);
    life->driver->vtable->forget(life->driver, &completion->operation, completion->run);
    if (--life->left == 0) {
        (void)event_base_loopbreak(life->base);
    }
}

static void start(struct life *life, const struct chp_uuid *id, bool resume)
{
    char script[256];
    (void)snprintf(script, sizeof script,
                   "echo $CHEOPS_OPERATION >> %s; echo output of $CHEOPS_OPERATION",
                   life->world->ran);
    const char *argv[] = {"sh", "-c", script, NULL};
    struct chp_command command = {.argv = argv, .argc = 3};
    struct chp_buf payload = {0};
    REQUIRE(chp_command_encode(&command, &payload, NULL) == 0, "no payload");
    struct chp_run run = {
        .operation = *id,
        .run = 1,
        .resume = resume,
        .site = "Nantes",
        .resource = "loop",
        .type = "add",
        .payload = chp_buf_bytes(&payload),
        .deadline_ms = LAST_LIFE_MS,
    };
    life->driver->vtable->start(life->driver, &run, life_on_done, life);
    chp_buf_deinit(&payload);
}

/* In a process of its own, until all is committed and forgotten. */
static _Noreturn void live(const struct world *world, const struct round *round, bool first)
{
    static const char *const allow[] = {"*"};
    struct chp_error error = {0};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct life life = {.world = world, .round = round, .base = event_base_new()};
    struct chp_shell_config config = {
        .base = life.base,
        .runner = world->runner,
        .spool = world->spool,
        .allow = allow,
        .allow_count = 1,
        .concurrency_max = RUNS,
    };
    life.driver = chp_shell_driver_new(&config, &error);
    REQUIRE(life.driver != NULL, "%s", error.text);
    for (size_t i = 0; i < RUNS; i++) {
        if (committed(world, &round->ids[i])) {
            life.driver->vtable->forget(life.driver, &round->ids[i], 1);
        } else {
            life.left++;
            start(&life, &round->ids[i], !first);
        }
    }
    if (life.left > 0) {
        (void)event_base_dispatch(life.base);
    }
    life.driver->vtable->free(life.driver);
    event_base_free(life.base);
    exit(0);
}

static pid_t begin_life(const struct world *world, const struct round *round, bool first)
{
    pid_t agent = fork();
    REQUIRE(agent >= 0, "no process");
    if (agent == 0) {
        live(world, round, first);
    }
    return agent;
}

/* Kills the runner of a run, or of all. */
static void kill_runners(struct world *world, struct round *round, bool all)
{
    size_t only = (size_t)(next_random(world) % RUNS);
    for (size_t i = 0; i < RUNS; i++) {
        char *directory = chp_spool_directory(world->spool, &round->ids[i], 1);
        pid_t runner = 0;
        if ((all || i == only) && chp_spool_look(directory, &runner) == CHP_SPOOL_ALIVE) {
            round->runner_killed = true;
            (void)kill(runner, SIGKILL);
        }
        free(directory);
    }
}

static void strike(struct world *world, struct round *round, pid_t agent)
{
    unsigned draw = (unsigned)(next_random(world) % 20);
    enum fault fault = draw == 0 ? FAULT_MACHINE : draw == 1 ? FAULT_RUNNER : FAULT_AGENT;
    world->kills[fault]++;
    if (fault == FAULT_RUNNER) {
        kill_runners(world, round, false);
    }
    (void)kill(agent, SIGKILL);
    if (fault == FAULT_MACHINE) {
        kill_runners(world, round, true);
    }
}

static size_t times_ran(const char *log, const struct chp_uuid *id)
{
    char text[CHP_UUID_TEXT_BYTES];
    size_t count = 0;
    chp_uuid_format(id, text);
    for (const char *at = log; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

static void read_file(const char *path, char *text, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, text, cap - 1);
    text[len < 0 ? 0 : len] = 0;
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* A runner that an agent started just before it was killed may come this late: it takes its claim
 * back, and what it was in the way of is forgotten by a sweep, as the agent makes them. */
static void sweep(struct world *world)
{
    uint64_t until_ms = chp_clock_mono_ms() + SWEEP_MS;
    struct chp_spool_cursor cursor = {0};
    struct chp_uuid id;
    uint32_t run = 0;
    bool clean = true;
    while (chp_spool_next(&cursor, world->spool, &id, &run)) {
        char *directory = chp_spool_directory(world->spool, &id, run);
        REQUIRE(chp_clock_mono_ms() < until_ms, "something stays in the spool");
        chp_spool_forget(directory);
        free(directory);
        clean = false;
    }
    world->swept += !clean;
}

static void check(struct world *world, const struct round *round)
{
    char log[RUNS * 2 * CHP_UUID_TEXT_BYTES + 1024];
    read_file(world->ran, log, sizeof log);
    for (size_t i = 0; i < RUNS; i++) {
        char path[160];
        char text[CHP_UUID_TEXT_BYTES];
        char expected[128];
        char result[1024];
        chp_uuid_format(&round->ids[i], text);
        (void)snprintf(expected, sizeof expected, "done output of %s\n", text);
        result_path(world, &round->ids[i], path);
        read_file(path, result, sizeof result);
        size_t ran = times_ran(log, &round->ids[i]);
        bool doubt = strncmp(result, "in-doubt", 8) == 0;
        REQUIRE(ran <= 1, "%s ran %zu times", text, ran);
        REQUIRE(doubt ? round->runner_killed : strcmp(result, expected) == 0 && ran == 1,
                "%s: ran %zu times, said '%s'%s", text, ran, result,
                round->runner_killed ? ", a runner was killed" : "");
        world->doubts += doubt;
        (void)unlink(path);
    }
    (void)unlink(world->ran);
    sweep(world);
}

static void play_round(struct world *world, unsigned kills_max)
{
    struct round round = {0};
    unsigned kills = 0;
    uint64_t began_us = chp_clock_mono_us();
    for (size_t i = 0; i < RUNS; i++) {
        round.ids[i] = chp_uuid_new();
    }
    for (bool first = true, over = false; !over; first = false) {
        pid_t agent = begin_life(world, &round, first);
        int status = 0;
        if (kills < kills_max) {
            (void)usleep((useconds_t)(next_random(world) % (world->span_us * 5 / 4)));
            strike(world, &round, agent);
            kills++;
        }
        REQUIRE(waitpid(agent, &status, 0) == agent, "an agent is lost");
        over = WIFEXITED(status);
        REQUIRE(!over || WEXITSTATUS(status) == 0, "an agent has failed");
    }
    check(world, &round);
    world->rounds++;
    if (kills == 0) {
        uint64_t took_us = chp_clock_mono_us() - began_us;
        world->span_us = world->span_us == 0 ? took_us : (world->span_us * 3 + took_us) / 4;
    }
}

static unsigned killed(const struct world *world)
{
    return world->kills[FAULT_AGENT] + world->kills[FAULT_MACHINE] + world->kills[FAULT_RUNNER];
}

int main(int argc, char **argv)
{
    /* In memory: processes die here, not the machine, and waiting for a disk tests nothing. */
    struct world world = {.directory = "/dev/shm/cheops-runner-loop-XXXXXX"};
    const char *binaries = getenv("CHEOPS_BINARY_DIR");
    unsigned wanted = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10000;
    chp_random(&world.random, sizeof world.random);
    if (argc > 2) {
        world.random = strtoull(argv[2], NULL, 0);
    }
    world.random |= 1;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)printf("seed %#llx\n", (unsigned long long)world.random);
    chp_log_setup(CHP_LOG_ERROR, "Nantes");
    REQUIRE(mkdtemp(world.directory) != NULL, "no directory");
    (void)snprintf(world.spool, sizeof world.spool, "%s/spool", world.directory);
    (void)snprintf(world.results, sizeof world.results, "%s/results", world.directory);
    (void)snprintf(world.ran, sizeof world.ran, "%s/ran", world.directory);
    (void)snprintf(world.runner, sizeof world.runner, "%s/bin/cheops-runner",
                   binaries == NULL ? "." : binaries);
    REQUIRE(mkdir(world.results, 0700) == 0, "no directory");
    play_round(&world, 0);
    while (killed(&world) < wanted) {
        unsigned left = wanted - killed(&world);
        unsigned lives = (unsigned)(next_random(&world) % (LIVES_MAX + 1));
        play_round(&world, lives < left ? lives : left);
        if (world.rounds % 1000 == 0) {
            (void)printf("%u kills, %u rounds\n", killed(&world), world.rounds);
        }
    }
    (void)printf("%u kills (%u of agents, %u of agents with their runners, %u of a runner and its "
                 "agent), %u commands: each ran once, %u of them in doubt; swept after %u rounds\n",
                 killed(&world), world.kills[FAULT_AGENT], world.kills[FAULT_MACHINE],
                 world.kills[FAULT_RUNNER], world.rounds * RUNS, world.doubts, world.swept);
    chp_spool_remove_tree(world.directory);
    return 0;
}
