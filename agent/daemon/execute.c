/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Runs of operations (design 4.5): files brought here, the driver started, its completion given to
 * the engine. A completion is kept until its result is committed: if the store goes away in
 * between, the new engine resumes the run and gets it again.
 */
#include "daemon/daemon.h"

#include "base/boundary.h"

#include <stdlib.h>
#include <string.h>

struct execution {
    struct executor *executor;
    struct chp_uuid id;
    uint32_t run;
    bool undo; /* its undo runs */
    bool fetching;
    size_t blobs_waiting;
    int fetch_code;
    struct chp_arena arena;
    struct chp_operation operation; /* decoded from item */
    struct chp_bytes item;
    struct chp_completion *completion; /* once it has ended */
};

struct executor {
    struct chp_agent *agent;
    struct chp_map *executions; /* operation and run -> struct execution */
    struct chp_map *fetches;    /* operation -> struct execution */
};

struct executor *executor__new(struct chp_agent *agent)
{
    struct executor *executor = chp_alloc(sizeof *executor);
    executor->agent = agent;
    executor->executions = chp_map_new(agent->engine_config.map_seed);
    executor->fetches = chp_map_new(agent->engine_config.map_seed);
    return executor;
}

static void free_execution(struct execution *execution)
{
    if (execution->fetching) {
        chp_blob_fetch_cancel(execution->executor->agent->blobs, execution);
    }
    struct chp_arena arena = execution->arena;
    free(execution);
    chp_arena_deinit(&arena);
}

void executor__free(struct executor *executor)
{
    void *value;
    for (const void *at = NULL; (value = chp_map_next(executor->executions, &at, NULL)) != NULL;) {
        free_execution(value);
    }
    for (const void *at = NULL; (value = chp_map_next(executor->fetches, &at, NULL)) != NULL;) {
        free_execution(value);
    }
    chp_map_free(executor->executions);
    chp_map_free(executor->fetches);
    free(executor);
}

static struct execution *execution_new(struct executor *executor, struct chp_bytes item,
                                       uint32_t run)
{
    struct execution *execution = chp_alloc(sizeof *execution);
    struct chp_item decoded;
    execution->executor = executor;
    execution->run = run;
    execution->item = chp_arena_bytes(&execution->arena, item);
    CHP_ASSERT(chp_item_decode(execution->item, &execution->arena, &decoded, NULL) == 0);
    CHP_ASSERT(decoded.kind == CHP_ITEM_OPERATION);
    execution->operation = decoded.operation;
    execution->id = decoded.operation.id;
    return execution;
}

struct chp_driver *executor__driver(struct chp_agent *agent, const char *name)
{
    for (size_t i = 0; i < DRIVERS; i++) {
        if (agent->drivers[i] != NULL && strcmp(agent->drivers[i]->vtable->name, name) == 0) {
            return agent->drivers[i];
        }
    }
    return NULL;
}

static void give(struct execution *execution)
{
    struct chp_event event = {.kind = CHP_EVENT_EXECUTED,
                              .executed = {.resource = execution->operation.resource,
                                           .completion = execution->completion}};
    if (execution->executor->agent->engine_started) {
        turn__step(execution->executor->agent, &event);
    }
}

static void count(struct chp_agent *agent, enum chp_state state)
{
    agent->metrics.executions_running--;
    agent->metrics.executions_done_total += state == CHP_STATE_DONE;
    agent->metrics.executions_failed_total += state != CHP_STATE_DONE;
}

static void execution_on_done(void *user, const struct chp_completion *completion)
{
    struct execution *execution = user;
    struct chp_arena *arena = &execution->arena;
    chp_boundary("agent.ended");
    CHP_ASSERT(execution->completion == NULL);
    execution->completion = chp_arena_alloc(arena, sizeof *completion);
    *execution->completion = *completion;
    execution->completion->reason = chp_arena_strdup(arena, completion->reason);
    execution->completion->output = chp_arena_bytes(arena, completion->output);
    count(execution->executor->agent, completion->state);
    chp_log_info(
        "executed", CHP_S("resource", execution->operation.resource),
        CHP_S("type", execution->operation.type), CHP_S("origin", execution->operation.dot.origin),
        CHP_S("state", chp_state_name(completion->state)),
        CHP_I("exit_code", completion->exit_code), CHP_I("duration_ms", completion->duration_ms));
    give(execution);
    chp_boundary("agent.given");
}

static void refuse(struct execution *execution, const char *reason)
{
    struct chp_completion completion = {
        .operation = execution->id,
        .run = execution->run,
        .state = CHP_STATE_REFUSED,
        .exit_code = -1,
        .reason = reason,
        .started_ms = chp_clock_wall_ms(),
    };
    execution_on_done(execution, &completion);
}

/* Paths of what lies here as blobs, content of the rest; false when a blob has gone. */
static bool find_files(struct execution *execution, struct chp_run *run)
{
    const struct chp_operation *operation = &execution->operation;
    struct chp_run_file *files =
        chp_arena_calloc(&execution->arena, operation->file_count, sizeof *files);
    for (size_t i = 0; i < operation->file_count; i++) {
        const struct chp_file *file = &operation->files[i];
        files[i].name = file->name;
        files[i].content = file->content;
        if (!file->is_inline) {
            char path[4096];
            if (!chp_blob_have(execution->executor->agent->blobs, &file->sha256, NULL) ||
                chp_blob_path(execution->executor->agent->blobs, &file->sha256, path,
                              sizeof path) != 0) {
                return false;
            }
            files[i].path = chp_arena_strdup(&execution->arena, path);
        }
    }
    run->files = files;
    run->file_count = operation->file_count;
    return true;
}

static void start(struct execution *execution, bool resume)
{
    struct chp_agent *agent = execution->executor->agent;
    const struct chp_operation *operation = &execution->operation;
    struct chp_driver *driver = executor__driver(agent, operation->driver);
    struct chp_run run = {
        .operation = execution->id,
        .run = execution->run,
        .resume = resume,
        .site = agent->config->agent.site,
        .resource = operation->resource,
        .type = operation->type,
        .payload = execution->undo ? operation->undo : operation->payload,
        .deadline_ms = operation->deadline_ms,
    };
    agent->metrics.executions_running++;
    if (driver == NULL) {
        refuse(execution, "this site has no driver of that name");
    } else if (!find_files(execution, &run)) {
        refuse(execution, "a file of the operation has gone from this site");
    } else {
        driver->vtable->start(driver, &run, execution_on_done, execution);
        chp_boundary("agent.started");
    }
}

void executor__run(struct executor *executor, struct chp_bytes item, uint32_t run, bool undo,
                   bool resume)
{
    struct execution *execution = execution_new(executor, item, run);
    execution->undo = undo;
    uint8_t key[CHP_RUN_KEY_BYTES];
    struct chp_bytes name = chp_run_key(key, &execution->id, run);
    struct execution *known = chp_map_get(executor->executions, name);
    if (known != NULL) {
        CHP_ASSERT(resume); /* a new engine asks for what the old one had started */
        free_execution(execution);
        if (known->completion != NULL) {
            give(known);
        }
        return;
    }
    chp_map_put(executor->executions, name, execution);
    start(execution, resume);
}

bool executor__knows(const struct executor *executor, const struct chp_uuid *operation,
                     uint32_t run)
{
    uint8_t key[CHP_RUN_KEY_BYTES];
    return chp_map_get(executor->executions, chp_run_key(key, operation, run)) != NULL;
}

void executor__forget(struct executor *executor, const struct chp_uuid *operation, uint32_t run,
                      const char *driver_name)
{
    uint8_t key[CHP_RUN_KEY_BYTES];
    struct execution *execution =
        chp_map_remove(executor->executions, chp_run_key(key, operation, run));
    if (execution != NULL) {
        free_execution(execution);
    }
    struct chp_driver *driver = executor__driver(executor->agent, driver_name);
    if (driver != NULL) {
        driver->vtable->forget(driver, operation, run);
    }
}

static void fetched(struct execution *execution)
{
    struct executor *executor = execution->executor;
    struct chp_event event = {.kind = CHP_EVENT_FETCHED,
                              .fetched = {.operation = execution->id,
                                          .resource = execution->operation.resource,
                                          .code = execution->fetch_code}};
    execution->fetching = false;
    if (executor->agent->engine_started) {
        turn__step(executor->agent, &event);
    }
    chp_map_remove(executor->fetches, chp_bytes(execution->id.bytes, sizeof execution->id.bytes));
    free_execution(execution);
}

static void execution_on_fetched(void *user, const struct chp_sha256 *sha256, int code)
{
    struct execution *execution = user;
    (void)sha256;
    CHP_ASSERT(execution->blobs_waiting > 0);
    if (code != 0) {
        execution->fetch_code = code;
    }
    if (--execution->blobs_waiting == 0) {
        fetched(execution);
    }
}

/* Where the blobs of an operation may be: its origin first, then the other members. */
static size_t sources(const struct execution *execution, const char **sites)
{
    const struct chp_operation *operation = &execution->operation;
    const char *self = execution->executor->agent->config->agent.site;
    size_t count_of = 0;
    if (strcmp(operation->dot.origin, self) != 0) {
        sites[count_of++] = operation->dot.origin;
    }
    for (size_t i = 0; i < operation->member_count && count_of < CHP_SITES_MAX; i++) {
        if (strcmp(operation->members[i], self) != 0 &&
            strcmp(operation->members[i], operation->dot.origin) != 0) {
            sites[count_of++] = operation->members[i];
        }
    }
    return count_of;
}

void executor__fetch(struct executor *executor, struct chp_bytes item)
{
    struct execution *execution = execution_new(executor, item, 0);
    struct chp_bytes key = chp_bytes(execution->id.bytes, sizeof execution->id.bytes);
    if (chp_map_get(executor->fetches, key) != NULL) {
        free_execution(execution); /* under way for an engine that was thrown away */
        return;
    }
    const char *sites[CHP_SITES_MAX];
    size_t site_count = sources(execution, sites);
    chp_map_put(executor->fetches, key, execution);
    execution->fetching = true;
    execution->blobs_waiting = 1;
    for (size_t i = 0; i < execution->operation.file_count; i++) {
        const struct chp_file *file = &execution->operation.files[i];
        if (!file->is_inline && !chp_blob_have(executor->agent->blobs, &file->sha256, NULL)) {
            execution->blobs_waiting++;
            chp_blob_fetch(executor->agent->blobs, &file->sha256, file->size, sites, site_count,
                           execution_on_fetched, execution);
        }
    }
    if (--execution->blobs_waiting == 0) {
        fetched(execution);
    }
}
