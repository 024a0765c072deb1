/* SPDX-License-Identifier: AGPL-3.0-only */
/* Items: what goes in comes out; what breaks a rule is refused in both directions. */
#include "samples.h"

/* Encodes, decodes into *decoded, and encodes that again to the same bytes. */
static void round_trip(const struct chp_item *item, struct chp_arena *arena,
                       struct chp_item *decoded)
{
    struct chp_buf bytes = {0};
    struct chp_buf again = {0};
    struct chp_error error = {0};
    if (chp_item_encode(item, &bytes, &error) != 0) {
        fail_msg("%s", error.text);
    }
    struct chp_bytes kept = chp_arena_bytes(arena, chp_buf_bytes(&bytes));
    if (chp_item_decode(kept, arena, decoded, &error) != 0) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(decoded->kind, item->kind);
    if (chp_item_encode(decoded, &again, &error) != 0) {
        fail_msg("%s", error.text);
    }
    assert_true(chp_bytes_equal(chp_buf_bytes(&bytes), chp_buf_bytes(&again)));
    /* Half of it is never taken for the whole. */
    for (size_t len = 0; len < kept.len; len += 1 + len / 64) {
        struct chp_item cut;
        assert_int_not_equal(chp_item_decode(chp_bytes(kept.data, len), arena, &cut, &error), 0);
    }
    chp_buf_deinit(&bytes);
    chp_buf_deinit(&again);
}

/* Expects the encoder to refuse the item with a sentence that has the text, leaving out as it was.
 */
static void refuses(const struct chp_item *item, int code, const char *text)
{
    struct chp_buf out = {0};
    struct chp_error error = {0};
    chp_buf_add_text(&out, "kept");
    assert_int_equal(chp_item_encode(item, &out, &error), code);
    if (strstr(error.text, text) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", error.text, text);
    }
    assert_string_equal(chp_buf_text(&out), "kept");
    chp_buf_deinit(&out);
}

static void an_operation_keeps_every_field(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_item decoded;
    sample_operation(&sample);
    round_trip(&sample.item, &sample.arena, &decoded);
    const struct chp_operation *a = &sample.item.operation;
    const struct chp_operation *b = &decoded.operation;
    assert_true(chp_uuid_equal(&a->id, &b->id));
    assert_string_equal(b->resource, "greeting");
    assert_string_equal(b->dot.origin, "Nantes");
    assert_int_equal(b->dot.incarnation, 3);
    assert_int_equal(b->dot.n, 2);
    assert_int_equal(chp_stamp_compare(a->stamp, b->stamp), 0);
    assert_string_equal(b->type, "set");
    assert_int_equal(b->level, CHP_LEVEL_EVENTUAL);
    assert_string_equal(b->scope, "Nantes & Paris & Rennes");
    assert_int_equal(b->member_count, 3);
    assert_string_equal(b->members[2], "Rennes");
    assert_null(b->members[3]);
    assert_true(b->creates);
    assert_string_equal(b->driver, "shell");
    assert_true(chp_bytes_equal(a->payload, b->payload));
    assert_string_equal(b->summary, "sh -c 'echo $CHEOPS_SITE > {conf}'");
    assert_int_equal(b->file_count, 2);
    assert_true(b->files[0].is_inline);
    assert_true(chp_bytes_equal(b->files[0].content, chp_bytes_of("a=1")));
    assert_false(b->files[1].is_inline);
    assert_int_equal(b->files[1].size, 20971520);
    assert_int_equal(b->context.count, 3);
    assert_int_equal(chp_vector_get(&b->context, "Rennes", 7), 2);
    assert_int_equal(b->displaces_count, 2);
    assert_int_equal(b->displaces[0].last, 3);
    assert_string_equal(b->key, "k-1");
    assert_string_equal(b->principal, "alice");
    assert_int_equal(b->entered_ms, 1795000000001);
    assert_int_equal(b->deadline_ms, 60000);
    assert_string_equal(b->config, "{\"ResolutionMatrix\":[]}");
    sample_deinit(&sample);
}

static void what_an_operation_lacks_comes_out_as_zero(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_item decoded;
    sample_operation(&sample);
    struct chp_operation *operation = &sample.item.operation;
    operation->creates = false;
    operation->file_count = 0;
    operation->context.count = 0;
    operation->displaces_count = 0;
    operation->config = NULL;
    round_trip(&sample.item, &sample.arena, &decoded);
    assert_false(decoded.operation.creates);
    assert_int_equal(decoded.operation.file_count, 0);
    assert_int_equal(decoded.operation.context.count, 0);
    assert_null(decoded.operation.config);
    sample_deinit(&sample);
}

static void an_empty_inline_file_is_not_a_blob(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_item decoded;
    sample_operation(&sample);
    struct chp_file *file = &sample.item.operation.files[0];
    *file = (struct chp_file){.name = "empty", .is_inline = true, .sha256 = chp_sha256_of("", 0)};
    round_trip(&sample.item, &sample.arena, &decoded);
    assert_true(decoded.operation.files[0].is_inline);
    sample_deinit(&sample);
}

static void an_ack_keeps_every_field(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_item decoded;
    sample_ack(&sample);
    round_trip(&sample.item, &sample.arena, &decoded);
    const struct chp_ack *ack = &decoded.ack;
    assert_true(chp_uuid_equal(&ack->operation, &sample.item.ack.operation));
    assert_string_equal(ack->resource, "greeting");
    assert_string_equal(ack->site, "Rennes");
    assert_int_equal(ack->incarnation, 7);
    assert_int_equal(ack->run, 2);
    assert_int_equal(ack->state, CHP_STATE_IN_DOUBT);
    assert_int_equal(ack->exit_code, -1);
    assert_string_equal(ack->reason, "the machine stopped");
    assert_true(chp_bytes_equal(ack->output, chp_bytes("\xff\0out", 5)));
    assert_true(ack->output_cut && ack->unverified);
    assert_int_equal(ack->started_ms, 1795000000002);
    assert_int_equal(ack->duration_ms, 12);
    sample_deinit(&sample);
}

static void the_other_kinds_keep_their_fields(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_item decoded;
    struct chp_uuid id = {{1, 2, 3}};
    struct chp_sha256 sha256 = chp_sha256_of("x", 1);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_WANT, .want = {"web", {"Nantes", 3, 2, 9}}},
               &arena, &decoded);
    assert_string_equal(decoded.want.range.origin, "Nantes");
    assert_int_equal(decoded.want.range.last, 9);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_SHOW,
                                  .show = {id, "web", "shell", chp_bytes_of("p"), "alice", 20000}},
               &arena, &decoded);
    assert_string_equal(decoded.show.principal, "alice");
    assert_int_equal(decoded.show.deadline_ms, 20000);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_ANSWER,
                                  .answer = {id, "Paris", CHP_STATE_FAILED, 137, "killed",
                                             chp_bytes_of("o"), true, 4}},
               &arena, &decoded);
    assert_int_equal(decoded.answer.exit_code, 137);
    assert_true(decoded.answer.output_cut);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_FETCH, .fetch = {sha256, 131072, 131072}},
               &arena, &decoded);
    assert_int_equal(decoded.fetch.offset, 131072);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_CHUNK,
                                  .chunk = {sha256, 5, 2, chp_bytes_of("abc"), false}},
               &arena, &decoded);
    assert_true(chp_bytes_equal(decoded.chunk.data, chp_bytes_of("abc")));
    round_trip(&(struct chp_item){.kind = CHP_ITEM_CHUNK,
                                  .chunk = {sha256, 0, 2, chp_bytes(NULL, 0), true}},
               &arena, &decoded);
    assert_true(decoded.chunk.missing);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_BEAT, .beat = {10, 20, 30, 40, 2, 1, "0.1.0"}},
               &arena, &decoded);
    assert_int_equal(decoded.beat.held_us, 30);
    assert_string_equal(decoded.beat.software, "0.1.0");
    round_trip(&(struct chp_item){.kind = CHP_ITEM_REPAIR, .repair = {CHP_KEY_ACK, 16}}, &arena,
               &decoded);
    assert_int_equal(decoded.repair.key, CHP_KEY_ACK);
    assert_int_equal(decoded.repair.after, 16);
    refuses(&(struct chp_item){.kind = CHP_ITEM_REPAIR, .repair = {CHP_KEY_BEAT, 16}},
            CHP_EMALFORMED, "key must be operation or ack");
    chp_arena_deinit(&arena);
}

static void the_encoder_refuses_what_the_decoder_would(void **state)
{
    (void)state;
    struct sample sample;
    sample_operation(&sample);
    const struct chp_item good = sample.item;
    struct chp_operation *operation = &sample.item.operation;
    operation->resource = "../x";
    refuses(&sample.item, CHP_EINVAL, "operation.resource: resource id \"../x\"");
    sample.item = good;
    operation->resource = NULL;
    refuses(&sample.item, CHP_EINVAL, "operation.resource: is missing");
    sample.item = good;
    operation->dot.n = 0;
    refuses(&sample.item, CHP_EMALFORMED, "n must be 1 or more");
    sample.item = good;
    operation->stamp.ms = (uint64_t)1 << 48;
    refuses(&sample.item, CHP_EMALFORMED, "operation.stamp.ms: 281474976710656 is not within");
    sample.item = good;
    const char *unsorted[] = {"Paris", "Nantes"};
    operation->members = unsorted;
    operation->member_count = 2;
    refuses(&sample.item, CHP_EMALFORMED, "members must be sorted");
    const char *twice[] = {"Paris", "Paris"};
    operation->members = twice;
    refuses(&sample.item, CHP_EMALFORMED, "members must be sorted");
    operation->member_count = 0;
    refuses(&sample.item, CHP_EMALFORMED, "operation.members: 0 elements, at least 1 needed");
    sample.item = good;
    struct chp_dot dots[] = {{"B", 1, 1}, {"A", 1, 1}};
    operation->context = (struct chp_vector){dots, 2};
    refuses(&sample.item, CHP_EMALFORMED, "context must be sorted");
    sample.item = good;
    struct chp_range range = {"A", 1, 3, 2};
    operation->displaces = &range;
    operation->displaces_count = 1;
    refuses(&sample.item, CHP_EMALFORMED, "operation.displaces[0]: first is greater than last");
    sample.item = good;
    operation->files[1].name = "conf";
    refuses(&sample.item, CHP_EMALFORMED, "two files are called conf");
    operation->files[1].name = "../x";
    refuses(&sample.item, CHP_EINVAL, "operation.files[1].name: file name \"../x\"");
    operation->files[1].name = "image.bin";
    operation->files[0].content = chp_bytes_of("a=2");
    refuses(&sample.item, CHP_EMALFORMED,
            "operation.files[0]: content is not what size and sha256 say");
    sample_deinit(&sample);
}

static void everything_at_its_bound_fits(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_item decoded;
    sample_operation(&sample);
    struct chp_operation *operation = &sample.item.operation;
    struct chp_dot *dots = chp_arena_calloc(&sample.arena, CHP_VECTOR_MAX + 1, sizeof *dots);
    struct chp_range *ranges = chp_arena_calloc(&sample.arena, CHP_DISPLACES_MAX, sizeof *ranges);
    for (size_t i = 0; i <= CHP_VECTOR_MAX; i++) {
        dots[i] = (struct chp_dot){"Nantes", i, INT64_MAX};
    }
    for (size_t i = 0; i < CHP_DISPLACES_MAX; i++) {
        ranges[i] = (struct chp_range){"Nantes", i, 1, INT64_MAX};
    }
    operation->context = (struct chp_vector){dots, CHP_VECTOR_MAX};
    operation->displaces = ranges;
    operation->displaces_count = CHP_DISPLACES_MAX;
    char *config = chp_arena_alloc(&sample.arena, CHP_CONFIG_MAX_BYTES + 2);
    memset(config, ' ', CHP_CONFIG_MAX_BYTES);
    operation->config = config;
    operation->payload = chp_bytes(config, CHP_PAYLOAD_MAX_BYTES);
    operation->files[0].content = chp_bytes(config, CHP_FILE_INLINE_MAX_BYTES);
    operation->files[0].size = CHP_FILE_INLINE_MAX_BYTES;
    operation->files[0].sha256 = chp_sha256_of(config, CHP_FILE_INLINE_MAX_BYTES);
    operation->files[1] = operation->files[0];
    operation->files[1].name = "other";
    round_trip(&sample.item, &sample.arena, &decoded);
    assert_int_equal(decoded.operation.context.count, CHP_VECTOR_MAX);

    operation->context.count = CHP_VECTOR_MAX + 1;
    refuses(&sample.item, CHP_ETOOBIG, "operation.context: 2049 elements, at most 2048");
    operation->context.count = 1;
    config[CHP_CONFIG_MAX_BYTES] = ' ';
    refuses(&sample.item, CHP_ETOOBIG, "operation.config: 65537 bytes, at most 65536");
    sample_deinit(&sample);
}

/* The item's bytes, in arena. */
static struct chp_bytes encoded(const struct chp_item *item, struct chp_arena *arena)
{
    struct chp_buf out = {0};
    assert_int_equal(chp_item_encode(item, &out, NULL), 0);
    struct chp_bytes bytes = chp_arena_bytes(arena, chp_buf_bytes(&out));
    chp_buf_deinit(&out);
    return bytes;
}

static void a_past_has_an_operation_and_acks_of_it(void **state)
{
    (void)state;
    struct sample operation;
    struct sample ack;
    struct chp_item decoded;
    sample_operation(&operation);
    sample_ack(&ack);
    struct chp_bytes ack_bytes = encoded(&ack.item, &ack.arena);
    struct chp_item item = {
        .kind = CHP_ITEM_PAST,
        .past = {.operation = encoded(&operation.item, &operation.arena), .number = 7}};
    round_trip(&item, &ack.arena, &decoded);
    assert_int_equal(decoded.past.theirs.len, 0);
    assert_int_equal(decoded.past.ours.len, 0);
    assert_int_equal(decoded.past.number, 7);
    assert_true(chp_bytes_equal(decoded.past.operation, item.past.operation));
    item.past.theirs = ack_bytes;
    round_trip(&item, &ack.arena, &decoded);
    assert_true(chp_bytes_equal(decoded.past.theirs, ack_bytes));
    item.past.theirs = chp_bytes(NULL, 0);
    item.past.ours = ack_bytes;
    round_trip(&item, &ack.arena, &decoded);
    assert_true(chp_bytes_equal(decoded.past.ours, ack_bytes));

    ack.item.ack.operation.bytes[0] ^= 1;
    item.past.ours = encoded(&ack.item, &ack.arena);
    refuses(&item, CHP_EMALFORMED, "past: ours: must be of the operation that is given");
    item.past.ours = item.past.operation;
    refuses(&item, CHP_EMALFORMED, "past: ours: must be an item of kind ack");
    item.past.ours = chp_bytes(ack_bytes.data, ack_bytes.len - 1);
    refuses(&item, CHP_EMALFORMED, "past: ours: not msgpack, or cut off");
    item.past.ours = chp_bytes(NULL, 0);
    /* Nothing nests: what is in a past is judged before it is read. */
    item.past.operation = encoded(
        &(struct chp_item){.kind = CHP_ITEM_PAST, .past = {.operation = item.past.operation}},
        &operation.arena);
    refuses(&item, CHP_EMALFORMED, "past: operation: must be an item of kind operation");
    item.past.operation = chp_bytes(NULL, 0);
    refuses(&item, CHP_EMALFORMED, "past.operation: 0 bytes, at least 1 needed");
    sample_deinit(&operation);
    sample_deinit(&ack);
}

static void the_largest_operation_fits_in_a_past_with_acks(void **state)
{
    (void)state;
    struct sample operation;
    struct sample ack;
    struct chp_item decoded;
    struct chp_buf out = {0};
    sample_operation(&operation);
    sample_ack(&ack);
    static uint8_t padding[CHP_FILE_INLINE_MAX_BYTES];
    /* Names of the greatest length, so that it comes near the bound of an item. */
    static char site[CHP_SITE_MAX_BYTES + 1];
    memset(site, 'a', CHP_SITE_MAX_BYTES);
    struct chp_dot *dots = chp_arena_calloc(&operation.arena, CHP_VECTOR_MAX, sizeof *dots);
    for (size_t i = 0; i < CHP_VECTOR_MAX; i++) {
        dots[i] = (struct chp_dot){site, i, INT64_MAX};
    }
    operation.item.operation.context = (struct chp_vector){dots, CHP_VECTOR_MAX};
    struct chp_range ranges[300];
    for (size_t i = 0; i < 300; i++) {
        ranges[i] = (struct chp_range){site, i, 1, INT64_MAX};
    }
    operation.item.operation.displaces = ranges;
    operation.item.operation.displaces_count = 300;
    struct chp_file *file = &operation.item.operation.files[0];
    operation.item.operation.files[1] = (struct chp_file){
        .name = "other",
        .size = sizeof padding,
        .is_inline = true,
        .content = chp_bytes(padding, sizeof padding),
        .sha256 = chp_sha256_of(padding, sizeof padding),
    };
    size_t low = 0;
    size_t high = sizeof padding;
    operation.item.operation.payload = chp_bytes(padding, CHP_PAYLOAD_MAX_BYTES);
    char *config = chp_arena_alloc(&operation.arena, CHP_CONFIG_MAX_BYTES + 1);
    memset(config, ' ', CHP_CONFIG_MAX_BYTES);
    operation.item.operation.config = config;
    while (low < high) { /* the greatest file with which it fits */
        size_t middle = (low + high + 1) / 2;
        file->size = middle;
        file->content = chp_bytes(padding, middle);
        file->sha256 = chp_sha256_of(padding, middle);
        chp_buf_clear(&out);
        if (chp_item_encode(&operation.item, &out, NULL) == 0) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    ack.item.ack.output = chp_bytes(padding, CHP_OUTPUT_MAX_BYTES);
    struct chp_bytes ack_bytes = encoded(&ack.item, &ack.arena);
    file->size = low;
    file->content = chp_bytes(padding, low);
    file->sha256 = chp_sha256_of(padding, low);
    struct chp_item item = {
        .kind = CHP_ITEM_PAST,
        .past = {encoded(&operation.item, &operation.arena), 7, ack_bytes, ack_bytes}};
    assert_true(item.past.operation.len > CHP_ITEM_MAX_BYTES - 1024);
    round_trip(&item, &ack.arena, &decoded);
    chp_buf_deinit(&out);
    sample_deinit(&operation);
    sample_deinit(&ack);
}

static void a_report_has_vectors(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_item decoded;
    struct chp_dot dots[] = {{"Nantes", 1, 4}, {"Nantes", 3, 1}, {"Rennes", 7, 2}};
    struct chp_report_entry entries[] = {{"web", {dots, 3}}, {"dns", {NULL, 0}}};
    struct chp_item item = {.kind = CHP_ITEM_REPORT,
                            .report = {.upto = 90,
                                       .end = true,
                                       .operation_mark = 12,
                                       .ack_mark = 3,
                                       .entries = entries,
                                       .entry_count = 2}};
    round_trip(&item, &arena, &decoded);
    assert_int_equal(decoded.report.upto, 90);
    assert_true(decoded.report.end);
    assert_int_equal(decoded.report.operation_mark, 12);
    assert_int_equal(decoded.report.ack_mark, 3);
    assert_int_equal(decoded.report.entry_count, 2);
    assert_string_equal(decoded.report.entries[0].resource, "web");
    assert_int_equal(chp_vector_get(&decoded.report.entries[0].vector, "Rennes", 7), 2);
    assert_int_equal(decoded.report.entries[1].vector.count, 0);
    dots[0].origin = "Rennes";
    refuses(&item, CHP_EMALFORMED, "report.entries[0]: vector must be sorted");
    dots[0].origin = "Nantes";
    entries[1].resource = "../x";
    refuses(&item, CHP_EINVAL, "report.entries[1].resource: resource id \"../x\"");
    item.report = (struct chp_report){.upto = 90};
    round_trip(&item, &arena, &decoded);
    assert_false(decoded.report.end);
    assert_int_equal(decoded.report.entry_count, 0);
    chp_arena_deinit(&arena);
}

/* count resources with vectors of so many dots. */
static struct chp_report_entry *many_entries(struct chp_arena *arena, size_t count, size_t dots,
                                             const char *site)
{
    struct chp_report_entry *entries = chp_arena_calloc(arena, count, sizeof *entries);
    for (size_t i = 0; i < count; i++) {
        struct chp_dot *vector = chp_arena_calloc(arena, dots + 1, sizeof *vector);
        for (size_t j = 0; j < dots; j++) {
            vector[j] = (struct chp_dot){site, INT64_MAX - dots + j, INT64_MAX};
        }
        entries[i] =
            (struct chp_report_entry){chp_arena_printf(arena, "resource-%zu", i), {vector, dots}};
    }
    return entries;
}

static void fits(size_t count, size_t dots, const char *site, size_t at_least)
{
    struct chp_arena arena = {0};
    struct chp_item decoded;
    struct chp_item item = {.kind = CHP_ITEM_REPORT, .report.upto = INT64_MAX};
    item.report.entries = many_entries(&arena, count, dots, site);
    item.report.entry_count = chp_report_fit(item.report.entries, count);
    assert_in_range(item.report.entry_count, at_least, count);
    round_trip(&item, &arena, &decoded);
    assert_int_equal(decoded.report.entry_count, item.report.entry_count);
    chp_arena_deinit(&arena);
}

static void as_much_as_fits_goes_into_a_report(void **state)
{
    (void)state;
    static char site[CHP_SITE_MAX_BYTES + 1];
    memset(site, 'a', CHP_SITE_MAX_BYTES);
    assert_int_equal(chp_report_fit(NULL, 0), 0);
    fits(256, 15, "Nantes", 256); /* the usual: some sites, few incarnations */
    fits(256, 16, "Nantes", 244);
    fits(300, 3, "Nantes", CHP_REPORT_ENTRIES_MAX);
    fits(3, CHP_VECTOR_MAX, "Nantes", 1);
    fits(3, CHP_VECTOR_MAX, site, 1);
    fits(256, 15, site, 240);
}

static void the_kinds_of_version_2_keep_their_fields(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_item decoded;
    struct chp_uuid id = {{1, 2, 3}};
    struct chp_uuid other = {{4, 5, 6}};
    round_trip(
        &(struct chp_item){.kind = CHP_ITEM_NONE, .none = {"web", {"Nantes", 3, 2, 9}, true}},
        &arena, &decoded);
    assert_string_equal(decoded.none.resource, "web");
    assert_int_equal(decoded.none.range.first, 2);
    assert_true(decoded.none.forgotten);
    round_trip(&(struct chp_item){.kind = CHP_ITEM_REPORTED, .reported = {90}}, &arena, &decoded);
    assert_int_equal(decoded.reported.upto, 90);
    struct chp_item item = {.kind = CHP_ITEM_REINCARNATE,
                            .reincarnate = {"web", {"Nantes", 3, 2}, id}};
    round_trip(&item, &arena, &decoded);
    assert_string_equal(decoded.reincarnate.resource, "web");
    assert_string_equal(decoded.reincarnate.dot.origin, "Nantes");
    assert_int_equal(decoded.reincarnate.dot.incarnation, 3);
    assert_int_equal(decoded.reincarnate.dot.n, 2);
    assert_true(chp_uuid_equal(&decoded.reincarnate.operation, &id));
    item.reincarnate.dot.n = 0;
    refuses(&item, CHP_EMALFORMED, "n of its dot must be 1 or more");
    for (int i = 0; i < CHP_RESOLUTION_COUNT; i++) {
        round_trip(&(struct chp_item){.kind = CHP_ITEM_RESOLVE,
                                      .resolve = {id, other, (enum chp_resolution)i, "alice"}},
                   &arena, &decoded);
        assert_int_equal(decoded.resolve.resolution, i);
        assert_true(chp_uuid_equal(&decoded.resolve.id, &id));
        assert_true(chp_uuid_equal(&decoded.resolve.operation, &other));
        assert_string_equal(decoded.resolve.principal, "alice");
    }
    item = (struct chp_item){.kind = CHP_ITEM_RESOLVED, .resolved = {.id = id, .ok = true}};
    round_trip(&item, &arena, &decoded);
    assert_true(decoded.resolved.ok);
    assert_null(decoded.resolved.reason);
    item.resolved.reason = "why";
    refuses(&item, CHP_EMALFORMED, "a reason goes with what is not ok");
    item.resolved.ok = false;
    round_trip(&item, &arena, &decoded);
    assert_string_equal(decoded.resolved.reason, "why");
    item.resolved.reason = NULL;
    refuses(&item, CHP_EMALFORMED, "a reason goes with what is not ok");
    chp_arena_deinit(&arena);
}

/* An ack's map by hand, with what a test wants to be different. */
static struct chp_bytes ack_by_hand(struct chp_arena *arena, const char *state_name, int extra,
                                    const char *without, int64_t run)
{
    struct chp_buf out = {0};
    msgpack_packer packer = packer_to(&out);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, CHP_ITEM_ACK);
    msgpack_pack_map(&packer, (size_t)(7 + extra - (without != NULL)));
    if (extra > 0) { /* unknown fields, first and nested */
        pack(&packer, "later");
        msgpack_pack_array(&packer, 2);
        msgpack_pack_map(&packer, 1);
        pack(&packer, "a");
        msgpack_pack_double(&packer, 0.5);
        msgpack_pack_nil(&packer);
    }
    static const char *const names[] = {"exit", "state",    "run",      "inc",
                                        "site", "resource", "operation"};
    for (size_t i = 0; i < 7; i++) { /* in another order than ours */
        if (without != NULL && strcmp(without, names[i]) == 0) {
            continue;
        }
        pack(&packer, names[i]);
        switch (i) {
        case 0:
            msgpack_pack_int(&packer, 0);
            break;
        case 1:
            pack(&packer, state_name);
            break;
        case 2:
            msgpack_pack_int64(&packer, run);
            break;
        case 3:
            msgpack_pack_int64(&packer, 7);
            break;
        case 4:
            pack(&packer, "Rennes");
            break;
        case 5:
            pack(&packer, "web");
            break;
        default:
            msgpack_pack_bin_with_body(&packer, "0123456789abcdef", 16);
        }
    }
    if (extra > 1) {
        pack(&packer, "state");
        pack(&packer, "done");
    }
    msgpack_pack_nil(&packer);
    struct chp_bytes bytes = chp_arena_bytes(arena, chp_buf_bytes(&out));
    chp_buf_deinit(&out);
    return bytes;
}

static void fields_come_in_any_order_and_unknown_ones_are_skipped(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    struct chp_item item;
    struct chp_error error = {0};
    assert_int_equal(
        chp_item_decode(ack_by_hand(&arena, "done", 1, NULL, 1), &arena, &item, &error), 0);
    assert_string_equal(item.ack.site, "Rennes");
    assert_int_equal(item.ack.incarnation, 7);
    assert_null(item.ack.reason);
    chp_arena_deinit(&arena);
}

static void decoding_refuses(struct chp_bytes bytes, int code, const char *text)
{
    struct chp_arena arena = {0};
    struct chp_item item;
    struct chp_error error = {0};
    assert_int_equal(chp_item_decode(bytes, &arena, &item, &error), code);
    assert_int_equal(error.code, code);
    if (strstr(error.text, text) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", error.text, text);
    }
    chp_arena_deinit(&arena);
}

static void the_decoder_names_what_is_wrong(void **state)
{
    (void)state;
    struct chp_arena arena = {0};
    decoding_refuses(ack_by_hand(&arena, "finished", 0, NULL, 1), CHP_EMALFORMED,
                     "ack.state: is none of");
    decoding_refuses(ack_by_hand(&arena, "done", 2, NULL, 1), CHP_EMALFORMED,
                     "ack.state: is given twice");
    decoding_refuses(ack_by_hand(&arena, "done", 0, "site", 1), CHP_EMALFORMED,
                     "ack.site: is missing");
    decoding_refuses(ack_by_hand(&arena, "done", 0, NULL, -1), CHP_EMALFORMED,
                     "ack.run: must be an integer that is not negative, is a negative integer");
    decoding_refuses(ack_by_hand(&arena, "done", 0, NULL, INT64_MAX), CHP_EMALFORMED,
                     "ack.run: 9223372036854775807");
    decoding_refuses(unhex(&arena, "93 2a 80 c0"), CHP_EVERSION, "kind 42");
    decoding_refuses(unhex(&arena, "93 00 80 c0"), CHP_EVERSION, "kind 0");
    decoding_refuses(unhex(&arena, "93 ff 80 c0"), CHP_EMALFORMED, "kind must be a number");
    decoding_refuses(unhex(&arena, "93 02 90 c0"), CHP_EMALFORMED,
                     "ack: must be a map, is an array");
    decoding_refuses(unhex(&arena, "93 02 81 01 02 c0"), CHP_EMALFORMED,
                     "whose name is an integer");
    decoding_refuses(unhex(&arena, "92 02 80"), CHP_EMALFORMED, "[kind, body, signature]");
    decoding_refuses(unhex(&arena, "c0"), CHP_EMALFORMED, "[kind, body, signature]");
    decoding_refuses(unhex(&arena, ""), CHP_EMALFORMED, "not msgpack");
    static const uint8_t big[CHP_PAST_MAX_BYTES + 1];
    decoding_refuses(chp_bytes(big, sizeof big), CHP_ETOOBIG, "663553 bytes");
    chp_arena_deinit(&arena);
}

static void a_name_rule_broken_by_another_agent_is_malformed(void **state)
{
    (void)state;
    struct chp_buf out = {0};
    msgpack_packer packer = packer_to(&out);
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, CHP_ITEM_WANT);
    msgpack_pack_map(&packer, 1);
    pack(&packer, "resource");
    pack(&packer, "../x");
    msgpack_pack_nil(&packer);
    decoding_refuses(chp_buf_bytes(&out), CHP_EMALFORMED, "want.resource: resource id \"../x\"");
    chp_buf_deinit(&out);
}

static void a_signature_is_nil_or_64_bytes(void **state)
{
    (void)state;
    struct sample sample;
    struct chp_buf out = {0};
    struct chp_item item;
    sample_ack(&sample);
    assert_int_equal(chp_item_encode(&sample.item, &out, NULL), 0);
    assert_int_equal(out.data[out.len - 1], 0xc0);
    for (size_t len = 63; len <= 65; len++) {
        uint8_t signature[65] = {0};
        struct chp_buf copy = {0};
        msgpack_packer packer = packer_to(&copy);
        chp_buf_add(&copy, out.data, out.len - 1);
        msgpack_pack_bin_with_body(&packer, signature, len);
        assert_int_equal(chp_item_decode(chp_buf_bytes(&copy), &sample.arena, &item, NULL),
                         len == 64 ? 0 : CHP_EMALFORMED);
        chp_buf_deinit(&copy);
    }
    chp_buf_deinit(&out);
    sample_deinit(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_keeps_every_field),
        cmocka_unit_test(what_an_operation_lacks_comes_out_as_zero),
        cmocka_unit_test(an_empty_inline_file_is_not_a_blob),
        cmocka_unit_test(an_ack_keeps_every_field),
        cmocka_unit_test(the_other_kinds_keep_their_fields),
        cmocka_unit_test(a_past_has_an_operation_and_acks_of_it),
        cmocka_unit_test(the_largest_operation_fits_in_a_past_with_acks),
        cmocka_unit_test(a_report_has_vectors),
        cmocka_unit_test(as_much_as_fits_goes_into_a_report),
        cmocka_unit_test(the_kinds_of_version_2_keep_their_fields),
        cmocka_unit_test(the_encoder_refuses_what_the_decoder_would),
        cmocka_unit_test(everything_at_its_bound_fits),
        cmocka_unit_test(fields_come_in_any_order_and_unknown_ones_are_skipped),
        cmocka_unit_test(the_decoder_names_what_is_wrong),
        cmocka_unit_test(a_name_rule_broken_by_another_agent_is_malformed),
        cmocka_unit_test(a_signature_is_nil_or_64_bytes),
    };
    return cmocka_run_group_tests_name("wire item", tests, NULL, NULL);
}
