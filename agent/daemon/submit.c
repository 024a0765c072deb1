/* SPDX-License-Identifier: AGPL-3.0-only */
/* Requests from the doors, from the moment that they are copied until they are answered. */
#include "daemon/daemon.h"

#include "matrix/matrix.h"

#include <stdlib.h>
#include <string.h>

static void copy_files(struct submission *submission)
{
    struct chp_arena *arena = &submission->arena;
    struct chp_request *request = &submission->request;
    struct chp_file *files = chp_arena_calloc(arena, request->file_count, sizeof *files);
    for (size_t i = 0; i < request->file_count; i++) {
        files[i] = request->files[i];
        files[i].name = chp_arena_strdup(arena, files[i].name);
        files[i].content = chp_arena_bytes(arena, files[i].content);
    }
    request->files = files;
}

static void copy_request(struct submission *submission, const struct chp_request *request)
{
    struct chp_arena *arena = &submission->arena;
    struct chp_request *copy = &submission->request;
    *copy = *request;
    copy->key = chp_arena_strdup(arena, request->key);
    copy->principal = chp_arena_strdup(arena, request->principal);
    copy->resource = chp_arena_strdup(arena, request->resource);
    copy->type = chp_arena_strdup(arena, request->type);
    copy->scope = chp_arena_strdup(arena, request->scope);
    copy->driver = chp_arena_strdup(arena, request->driver);
    copy->payload = chp_arena_bytes(arena, request->payload);
    copy->undo = chp_arena_bytes(arena, request->undo);
    copy->config = chp_arena_strdup(arena, request->config);
    copy->reply_to = chp_arena_strdup(arena, request->reply_to);
    copy->correlation_id = chp_arena_strdup(arena, request->correlation_id);
    copy_files(submission);
}

static int check_undo(struct chp_agent *agent, const struct chp_request *request,
                      struct chp_error *error)
{
    struct chp_error reason = {0};
    int code = request->undo.len == 0
                   ? 0
                   : agent_port__vtable.check(agent, request->driver, request->undo, request->files,
                                              request->file_count, &reason);
    return code == 0 ? 0 : chp_error_set(error, code, "its undo: %s", reason.text);
}

/* What is refused before the engine sees it: the driver's own check, files that are not here, the
 * matrix. */
static int check(struct chp_agent *agent, struct submission *submission, struct chp_error *error)
{
    struct chp_request *request = &submission->request;
    int code = agent_port__vtable.check(agent, request->driver, request->payload, request->files,
                                        request->file_count, error);
    code = code != 0 ? code : check_undo(agent, request, error);
    for (size_t i = 0; code == 0 && i < request->file_count; i++) {
        const struct chp_file *file = &request->files[i];
        uint64_t size = 0;
        if (!file->is_inline && !chp_blob_have(agent->blobs, &file->sha256, &size)) {
            code = chp_error_set(error, CHP_ENOTFOUND,
                                 "the content of file \"%s\" is not here: upload it first",
                                 file->name);
        } else if (!file->is_inline) {
            request->files[i].size = size;
        }
    }
    if (code == 0 && request->config != NULL) {
        const char **notes = NULL;
        size_t count = 0;
        code = chp_matrix_check(request->config, &submission->arena, &request->config, &notes,
                                &count, error);
        for (size_t i = 0; code == 0 && i < count; i++) {
            request->warning =
                i == 0 ? notes[i]
                       : chp_arena_printf(&submission->arena, "%s; %s", request->warning, notes[i]);
        }
    }
    return code;
}

static void offer(struct chp_agent *agent, struct submission *submission)
{
    submission->offered = true;
    struct chp_event event = {
        .kind = CHP_EVENT_REQUEST,
        .request = {.ticket = submission->ticket, .request = &submission->request}};
    turn__step(agent, &event);
}

static void finish(struct chp_agent *agent, struct submission *submission,
                   const struct chp_reply *reply)
{
    chp_reply_fn *on_reply = submission->on_reply;
    void *user = submission->user;
    chp_list_remove(&submission->link);
    agent->submission_count--;
    agent->submission_bytes -= submission->bytes;
    if (reply->code == 0 && !reply->duplicate) {
        agent->metrics.operations_accepted_total++;
    } else if (reply->code != 0 && reply->code != CHP_ECANCELED) {
        agent->metrics.operations_refused_total++;
    }
    if (on_reply != NULL) {
        on_reply(user, reply);
    }
    struct chp_arena arena = submission->arena;
    free(submission);
    chp_arena_deinit(&arena);
}

/* What a copy of the request takes, about. */
static size_t size_of(const struct chp_request *request)
{
    size_t bytes = sizeof(struct submission) + request->payload.len + request->undo.len +
                   (request->config == NULL ? 0 : strlen(request->config));
    for (size_t i = 0; i < request->file_count; i++) {
        bytes += sizeof request->files[i] + request->files[i].content.len;
    }
    return bytes;
}

static void refuse(chp_reply_fn *on_reply, void *user, int code, const char *text)
{
    struct chp_reply reply = {.code = code, .error = text};
    on_reply(user, &reply);
}

void submit__request(struct chp_agent *agent, const struct chp_request *request, bool is_amqp,
                     chp_reply_fn *on_reply, void *user)
{
    if (!is_amqp && !agent->engine_started) {
        refuse(on_reply, user, CHP_EUNAVAILABLE,
               "the database is not there: nothing is accepted now");
        return;
    }
    if (!is_amqp && agent->stopping) {
        refuse(on_reply, user, CHP_EUNAVAILABLE,
               "the agent is stopping: send it again when it is back");
        return;
    }
    size_t bytes = size_of(request);
    if (!is_amqp && (agent->submission_count >= CHP_SUBMISSIONS_MAX ||
                     agent->submission_bytes + bytes > CHP_SUBMISSIONS_MAX_BYTES)) {
        refuse(on_reply, user, CHP_EBUSY, "too many requests wait: try again later");
        return;
    }
    struct submission *submission = chp_alloc(sizeof *submission);
    copy_request(submission, request);
    submission->ticket = ++agent->last_ticket;
    submission->on_reply = on_reply;
    submission->user = user;
    submission->is_amqp = is_amqp;
    submission->bytes = bytes;
    agent->submission_bytes += bytes;
    chp_list_append(&agent->submissions, &submission->link);
    agent->submission_count++;
    struct chp_error error = {0};
    int code = check(agent, submission, &error);
    if (code != 0) {
        struct chp_reply reply = {.code = code, .error = error.text};
        finish(agent, submission, &reply);
    } else if (agent->engine_started) {
        offer(agent, submission);
    }
}

void submit__reply(struct chp_agent *agent, uint64_t ticket, const struct chp_reply *reply)
{
    CHP_LIST_FOREACH_SAFE(&agent->submissions, link, following)
    {
        struct submission *submission = CHP_CONTAINER(link, struct submission, link);
        if (submission->ticket == ticket) {
            finish(agent, submission, reply);
            return;
        }
    }
}

void submit__offer_all(struct chp_agent *agent)
{
    CHP_LIST_FOREACH_SAFE(&agent->submissions, link, following)
    {
        struct submission *submission = CHP_CONTAINER(link, struct submission, link);
        if (submission->offered) {
            submission->request.key_given = true; /* it may have been committed: look its key up */
        }
        offer(agent, submission);
    }
}

void submit__store_lost(struct chp_agent *agent)
{
    CHP_LIST_FOREACH_SAFE(&agent->submissions, link, following)
    {
        struct submission *submission = CHP_CONTAINER(link, struct submission, link);
        if (!submission->is_amqp) {
            struct chp_reply reply = {
                .code = CHP_EUNAVAILABLE,
                .error = "the database went away: whether this was accepted is not known, "
                         "send it again with the same idempotency key"};
            finish(agent, submission, &reply);
        }
    }
}

void submit__give_back(struct chp_agent *agent)
{
    CHP_LIST_FOREACH_SAFE(&agent->submissions, link, following)
    {
        struct submission *submission = CHP_CONTAINER(link, struct submission, link);
        if (submission->is_amqp) {
            struct chp_reply reply = {.code = CHP_ECANCELED};
            finish(agent, submission, &reply);
        }
    }
}

void submit__forget(struct chp_agent *agent, const void *user)
{
    CHP_LIST_FOREACH_SAFE(&agent->submissions, link, following)
    {
        struct submission *submission = CHP_CONTAINER(link, struct submission, link);
        if (submission->user == user) {
            submission->on_reply = NULL; /* the request goes on */
            submission->user = NULL;
        }
    }
}

void submit__deinit(struct chp_agent *agent)
{
    CHP_LIST_FOREACH_SAFE(&agent->submissions, link, following)
    {
        struct submission *submission = CHP_CONTAINER(link, struct submission, link);
        struct chp_arena arena = submission->arena;
        chp_list_remove(link);
        free(submission);
        chp_arena_deinit(&arena);
    }
}
