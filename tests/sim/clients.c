/* SPDX-License-Identifier: AGPL-3.0-only */
/* Who asks: clients that ask again, and an operator who resolves what is in doubt, truthfully. */
#include "sim/world.h"

#include "matrix/matrix.h"
#include "wire/payload.h"

#include <stdio.h>
#include <string.h>

enum { CLIENT_TRIES = 6, DOUBTS = 16 };

/* An id that depends on nothing but the seed, the action and the try. */
static struct chp_uuid draw_id(const struct sim *sim, const struct sim_action *action,
                               unsigned tries)
{
    struct sim_rng rng = sim_rng_of(sim->schedule->seed, 1000 + action->number * 64 + tries);
    struct chp_uuid id;
    uint64_t halves[2] = {sim_rng_next(&rng), sim_rng_next(&rng)};
    memcpy(id.bytes, halves, sizeof id.bytes);
    return id;
}

static struct chp_bytes encode(struct sim *sim, const char *text)
{
    const char *argv[] = {"model", text, NULL};
    struct chp_command command = {.argv = argv, .argc = 2};
    struct chp_buf payload = {0};
    CHP_ASSERT(chp_command_encode(&command, &payload, NULL) == 0);
    struct chp_bytes bytes = chp_arena_bytes(&sim->arena, chp_buf_bytes(&payload));
    chp_buf_deinit(&payload);
    return bytes;
}

static const char *scope_of(struct sim *sim, unsigned mask)
{
    struct chp_buf text = {0};
    for (int i = 0; i < sim->schedule->site_count; i++) {
        if ((mask >> i & 1) != 0) {
            chp_buf_printf(&text, "%s%s", text.len == 0 ? "" : " & ", sim_site_name(i));
        }
    }
    const char *scope = chp_arena_strdup(&sim->arena, chp_buf_text(&text));
    chp_buf_deinit(&text);
    return scope;
}

/* The matrix in canonical form, as the doors give it to the engine. */
static const char *config_of(struct sim *sim, const struct sim_action *action)
{
    const char *canonical = NULL;
    const char **notes;
    size_t note_count;
    struct chp_error error = {0};
    enum sim_app_kind kind = sim->schedule->kinds[action->request.resource];
    if (sim->schedule->commuting) {
        return NULL;
    }
    if (chp_matrix_check(sim_matrix(kind, action->request.matrix), &sim->arena, &canonical, &notes,
                         &note_count, &error) != 0) {
        sim_fail(sim, "the matrix of r%d is wrong: %s", action->request.resource, error.text);
    }
    return canonical;
}

static struct chp_request *request_of(struct sim *sim, const struct sim_action *action,
                                      unsigned tries)
{
    struct chp_arena *arena = &sim->arena;
    struct chp_request *request = chp_arena_alloc(arena, sizeof *request);
    request->id = draw_id(sim, action, tries);
    request->key = chp_arena_printf(arena, "key-%u", action->number);
    request->key_given = action->request.key_given;
    request->principal = "tester";
    request->resource = chp_arena_printf(arena, "r%d", action->request.resource);
    request->type = action->request.command.type;
    request->driver = "shell";
    request->payload = encode(sim, action->request.command.text);
    if (action->request.command.undo[0] != 0) {
        request->undo = encode(sim, action->request.command.undo);
    }
    if (action->request.creates) {
        request->scope = scope_of(sim, action->mask);
        request->config = config_of(sim, action);
    }
    return request;
}

static void offer(struct sim_site *site, size_t index)
{
    struct sim_client *client = &site->sim->clients[index];
    struct chp_event event = {.kind = CHP_EVENT_REQUEST,
                              .request = {.ticket = index + 1, .request = client->request}};
    client->offered = true;
    sim_site_step(site, &event);
}

void sim_client_offer(struct sim *sim, size_t index)
{
    const struct sim_action *action = &sim->schedule->actions[index];
    struct sim_client *client = &sim->clients[index];
    struct sim_site *site = &sim->sites[action->site];
    CHP_ASSERT(client->state == SIM_CLIENT_NEW);
    if (!site->started) {
        sim_after(sim, 400000, SIM_EVENT_OFFER, action->site, index); /* 503 */
        return;
    }
    sim->totals.requests += client->tries == 0;
    client->request = request_of(sim, action, client->tries);
    client->tries++;
    client->state = SIM_CLIENT_WAITS;
    sim->busy_us = sim->now_us;
    if (sim_operation_of(sim, &client->request->id) == NULL) {
        (void)sim_operation_add(sim, &client->request->id, (int)index);
    }
    offer(site, index);
}

static void again(struct sim *sim, size_t index, const char *why)
{
    struct sim_client *client = &sim->clients[index];
    if (client->tries >= CLIENT_TRIES) {
        client->state = SIM_CLIENT_REFUSED;
        sim->totals.refused++;
        (void)snprintf(client->error, sizeof client->error, "%s", why);
        return;
    }
    client->state = SIM_CLIENT_NEW;
    sim_after(sim, 700000, SIM_EVENT_OFFER, sim->schedule->actions[index].site, index);
}

static void on_error(struct sim_site *site, size_t index, const struct chp_reply *reply)
{
    struct sim *sim = site->sim;
    struct sim_client *client = &sim->clients[index];
    sim_trace(sim, site, "#%u is not accepted: %s", sim->schedule->actions[index].number,
              reply->error);
    if (reply->code == CHP_ENOTFOUND || reply->code == CHP_EBUSY ||
        reply->code == CHP_EUNAVAILABLE) {
        again(sim, index, reply->error);
        return;
    }
    if (reply->code != CHP_ECONFLICT && reply->code != CHP_EREFUSED) {
        sim_fail(sim, "%s answers #%u with %s: %s", site->name,
                 sim->schedule->actions[index].number, chp_error_name(reply->code), reply->error);
    }
    client->state = SIM_CLIENT_REFUSED;
    sim->totals.refused++;
    (void)snprintf(client->error, sizeof client->error, "%s", reply->error);
}

void sim_client_reply(struct sim_site *site, uint64_t ticket, const struct chp_reply *reply)
{
    struct sim *sim = site->sim;
    size_t index = ticket - 1;
    struct sim_client *client = &sim->clients[index];
    CHP_ASSERT(index < sim->schedule->count);
    sim->busy_us = sim->now_us;
    if (client->state != SIM_CLIENT_WAITS) {
        sim_fail(sim, "%s answers #%u, which does not wait", site->name,
                 sim->schedule->actions[index].number);
        return;
    }
    if (reply->code != 0) {
        on_error(site, index, reply);
        return;
    }
    struct sim_operation *operation = sim_operation_of(sim, &reply->id);
    sim_trace(sim, site, "#%u is accepted%s as %s", sim->schedule->actions[index].number,
              reply->duplicate ? " already" : "", sim_label(sim, &reply->id));
    client->state = SIM_CLIENT_ACCEPTED;
    sim->totals.accepted++;
    if (operation == NULL || operation->action != (int)index) {
        sim_fail(sim, "%s answers #%u with an operation that is another's", site->name,
                 sim->schedule->actions[index].number);
        return;
    }
    operation->accepted = true;
    operation->resource = sim->schedule->actions[index].request.resource;
}

void sim_client_lost(struct sim_site *site, bool gone)
{
    struct sim *sim = site->sim;
    for (size_t i = 0; i < sim->schedule->count; i++) {
        const struct sim_action *action = &sim->schedule->actions[i];
        struct sim_client *client = &sim->clients[i];
        if (action->site != site->index || client->state != SIM_CLIENT_WAITS) {
            continue;
        }
        client->request->key_given = true; /* it may have been committed */
        client->offered = false;
        if (gone && action->request.key_given) {
            again(sim, i, "the connection was lost");
        } else if (gone) {
            client->state = SIM_CLIENT_REFUSED; /* whether it was accepted is not known */
            sim->totals.refused++;
        }
    }
}

void sim_client_offer_all(struct sim_site *site)
{
    struct sim *sim = site->sim;
    for (size_t i = 0; i < sim->schedule->count; i++) {
        if (sim->schedule->actions[i].site == site->index &&
            sim->clients[i].state == SIM_CLIENT_WAITS && !sim->clients[i].offered) {
            offer(site, i);
        }
    }
}

bool sim_client_busy(const struct sim *sim)
{
    for (size_t i = 0; i < sim->schedule->count; i++) {
        const struct sim_client *client = &sim->clients[i];
        if (client->state == SIM_CLIENT_WAITS ||
            (client->state == SIM_CLIENT_NEW && client->tries > 0)) {
            return true;
        }
    }
    return false;
}

/* What became of the last run of the operation at the site: the driver's own notes say it. */
static enum chp_resolution truth(const struct sim_site *site, const struct chp_uuid *id)
{
    const struct sim_operation *operation = sim_operation_of(site->sim, id);
    for (size_t i = site->run_count; i > 0; i--) {
        const struct sim_run *run = &site->runs[i - 1];
        if (operation == NULL || &site->sim->operations[run->operation] != operation) {
            continue;
        }
        if (run->lost && !run->old) {
            return run->effected ? CHP_RESOLVE_DONE : CHP_RESOLVE_RERUN;
        }
        if (run->effected) {
            return run->undo ? CHP_RESOLVE_RERUN : CHP_RESOLVE_DONE;
        }
        if (run->ended && run->fails) {
            return CHP_RESOLVE_FAILED;
        }
    }
    return CHP_RESOLVE_RERUN;
}

void sim_operator_look(struct sim_site *site)
{
    struct sim *sim = site->sim;
    struct chp_doubt_view views[DOUBTS];
    site->looking = false;
    if (!site->started) {
        return;
    }
    size_t count = chp_engine_in_doubt(site->engine, views, DOUBTS);
    for (size_t i = 0; i < count && i < DOUBTS; i++) {
        if (strcmp(views[i].site, site->name) != 0) {
            continue;
        }
        enum chp_resolution resolution = truth(site, &views[i].operation);
        struct chp_event event = {.kind = CHP_EVENT_RESOLVE,
                                  .resolve = {.ticket = 1,
                                              .operation = views[i].operation,
                                              .resolution = resolution,
                                              .principal = "operator"}};
        sim_trace(sim, site, "the operator says of %s: %s", sim_label(sim, &views[i].operation),
                  chp_resolution_name(resolution));
        sim->totals.resolved++;
        sim->busy_us = sim->now_us;
        sim_site_step(site, &event);
    }
}
