/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Lives of the database (design section 4, incarnations).
 *
 * A database that was lost, or put back from a backup, has forgotten operations that this site gave
 * to others, took from others, and ran. To go on as if nothing had happened would give known dots
 * to new operations, and run commands twice. So before anything is admitted, what the database says
 * is compared with what is known outside it: the high-water file, which is written behind every
 * commit. What that can't show (both were put back together) peers show: their marks are ahead of
 * this site's streams, or their reports name dots that it does not have.
 *
 * A new life takes a new incarnation: its dots and its streams begin anew, so nothing is issued
 * twice. Its past it fetches from the members' reports (report.c). There is a gap towards each peer
 * until that peer's report is true here: operations of that peer which arrive meanwhile may have
 * been run by the earlier life, and are in doubt unless their number or their origin says
 * otherwise. What the database itself holds from an earlier life and has not ended is in doubt,
 * too.
 */
#include "engine/internal.h"

#include <string.h>

static const uint64_t mark_unknown = INT64_MAX;

/* Why what was loaded is not the database that this site last wrote; NULL when it is. */
static const char *reason_for(const struct chp_engine *engine, const struct chp_load *load)
{
    const struct chp_high_water *known = &engine->high_water;
    if (engine->regressed_reason != NULL) {
        return engine->regressed_reason;
    }
    if (load->start.site == NULL) {
        return known->found ? "the database is empty, and this site has had one" : NULL;
    }
    if (!known->found) {
        /* Serials are written since there are high-water files. */
        return load->start.serial > 0 ? "the state directory does not know this database" : NULL;
    }
    if (known->doubt != NULL) {
        return known->doubt;
    }
    if (known->incarnation > load->start.incarnation) {
        return "the database is that of an earlier incarnation";
    }
    if (known->incarnation == load->start.incarnation && known->serial > load->start.serial) {
        return "the database has lost what it had committed";
    }
    if (load->start.database != NULL && known->database != NULL &&
        strcmp(load->start.database, known->database) != 0) {
        return "the data are in another database than before";
    }
    return NULL;
}

static const struct chp_taken *taken_of(const struct chp_engine *engine, const char *site)
{
    for (size_t i = 0; i < engine->high_water.taken_count; i++) {
        if (strcmp(engine->high_water.taken[i].site, site) == 0) {
            return &engine->high_water.taken[i];
        }
    }
    return NULL;
}

static void write_gap(const struct peer *peer, struct chp_effects *effects)
{
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_GAP);
    write->gap.site = peer->site;
    write->gap.open = peer->gap_open;
    write->gap.mark = peer->gap_mark;
}

/* Opens the gap towards peer. When the file can be relied on its stream goes on behind what the
 * earlier life took, and nothing that comes from there is in doubt. */
static void open_gap(const struct chp_engine *engine, struct peer *peer,
                     const struct chp_load *load, bool reliable, struct chp_effects *effects)
{
    const struct chp_taken *taken = reliable ? taken_of(engine, peer->site) : NULL;
    peer->gap_open = true;
    peer->gap_mark = !reliable ? mark_unknown : taken == NULL || taken->mark == 0 ? 1 : taken->mark;
    write_gap(peer, effects);
    if (taken == NULL || taken->incarnation == 0) {
        return;
    }
    for (size_t i = 0; i < load->start.stream_count; i++) {
        const struct chp_stream_row *row = &load->start.streams[i];
        if (!row->out && row->key == CHP_KEY_OPERATION && strcmp(row->site, peer->site) == 0 &&
            row->incarnation == taken->incarnation && row->mark >= taken->mark) {
            return;
        }
    }
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_STREAM_IN);
    write->stream.site = peer->site;
    write->stream.key = CHP_KEY_OPERATION;
    write->stream.incarnation = taken->incarnation;
    write->stream.mark = taken->mark;
}

bool life__judge(struct chp_engine *engine, const struct chp_load *load,
                 struct chp_effects *effects)
{
    const char *reason = reason_for(engine, load);
    if (reason == NULL) {
        return false;
    }
    uint64_t highest = load->start.incarnation > engine->high_water.incarnation
                           ? load->start.incarnation
                           : engine->high_water.incarnation;
    if (engine->incarnation <= highest) {
        engine->incarnation = highest + 1;
    }
    engine->life_reason = chp_arena_strdup(&engine->start_arena, reason);
    engine->life_before = highest;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_REINCARNATE);
    write->reincarnate.site = engine->config.site;
    write->reincarnate.incarnation = engine->incarnation;
    write->reincarnate.database = chp_arena_strdup(&effects->batch.arena, load->start.database);
    bool reliable = engine->high_water.found && engine->high_water.doubt == NULL &&
                    engine->regressed_reason == NULL;
    for (size_t i = 0; i < engine->config.peer_count; i++) {
        open_gap(engine, &engine->peers[i], load, reliable, effects);
    }
    chp_batch_load(&effects->batch, CHP_LOAD_START);
    return true;
}

void life__tell(struct chp_engine *engine, const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_buf data = {0};
    chp_buf_add_text(&data, "{\"reason\":");
    journal__add_string(&data, engine->life_reason);
    chp_buf_printf(&data, ",\"before\":%llu,\"incarnation\":%llu}",
                   (unsigned long long)engine->life_before,
                   (unsigned long long)engine->incarnation);
    journal__add(
        engine,
        &(struct journal_entry){.kind = "site.reincarnated", .data = journal__take(&data, effects)},
        now, effects);
}

void life__regressed(struct chp_engine *engine, const char *reason, uint64_t incarnation,
                     struct chp_effects *effects)
{
    if (engine->regressed) {
        return;
    }
    engine->regressed = true;
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_REGRESSED);
    after->regressed.reason = reason;
    after->regressed.incarnation =
        incarnation > engine->incarnation ? incarnation : engine->incarnation;
}

void life__earlier(struct peer *peer, struct chp_effects *effects)
{
    if (peer->gap_mark == 0) {
        peer->gap_open = true;
        peer->gap_mark = mark_unknown;
        write_gap(peer, effects);
    }
}

void life__close_gap(struct peer *peer, struct chp_effects *effects)
{
    if (peer->gap_open) {
        peer->gap_open = false;
        write_gap(peer, effects);
    }
}

bool life__doubtful(const struct chp_engine *engine, const struct chp_event *event,
                    const struct chp_operation *operation, const struct chp_past *past)
{
    const struct chp_dot *dot = &operation->dot;
    if (strcmp(dot->origin, engine->config.site) == 0) {
        return dot->incarnation < engine->incarnation;
    }
    const struct peer *peer = engine__peer(engine, dot->origin);
    if (peer == NULL || !peer->gap_open) {
        return false;
    }
    bool by_origin = strcmp(event->item.from, dot->origin) == 0;
    uint64_t number = past != NULL ? past->number : event->item.number;
    return !by_origin || number == 0 || number <= peer->gap_mark;
}

struct chp_ack life__doubt(const struct chp_engine *engine, const struct chp_operation *operation,
                           uint32_t run, const struct chp_now *now)
{
    return (struct chp_ack){
        .operation = operation->id,
        .resource = operation->resource,
        .site = engine->config.site,
        .incarnation = engine->incarnation,
        .run = run == 0 ? 1 : run,
        .state = CHP_STATE_IN_DOUBT,
        .exit_code = -1,
        .reason = "the database of this site lost what it knew: whether this ran is not known",
        .started_ms = now->wall_ms,
    };
}
