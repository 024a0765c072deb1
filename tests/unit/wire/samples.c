/* SPDX-License-Identifier: AGPL-3.0-only */
#include "samples.h"

#include "wire/payload.h"

static const char *members[] = {"Nantes", "Paris", "Rennes"};
static const char *argv[] = {"sh", "-c", "echo $CHEOPS_SITE > {conf}", NULL};

static struct chp_dot context[] = {{"Nantes", 1, 4}, {"Nantes", 3, 1}, {"Rennes", 7, 2}};
static struct chp_range displaces[] = {{"Nantes", 1, 2, 3}, {"Rennes", 7, 2, 2}};

void sample_operation(struct sample *sample)
{
    *sample = (struct sample){.item.kind = CHP_ITEM_OPERATION};
    const struct chp_command command = {.argv = argv, .argc = 3};
    assert_int_equal(chp_command_encode(&command, &sample->payload, NULL), 0);
    struct chp_file *files = chp_arena_calloc(&sample->arena, 2, sizeof *files);
    files[0] = (struct chp_file){
        .name = "conf", .size = 3, .is_inline = true, .content = chp_bytes_of("a=1")};
    files[0].sha256 = chp_sha256_of("a=1", 3);
    files[1] = (struct chp_file){.name = "image.bin", .size = 20971520};
    memset(files[1].sha256.bytes, 0xab, CHP_SHA256_BYTES);
    struct chp_operation *operation = &sample->item.operation;
    *operation = (struct chp_operation){
        .resource = "greeting",
        .dot = {.origin = "Nantes", .incarnation = 3, .n = 2},
        .stamp = {.ms = 1795000000000, .counter = 5},
        .type = "set",
        .level = CHP_LEVEL_EVENTUAL,
        .scope = "Nantes & Paris & Rennes",
        .members = members,
        .member_count = 3,
        .creates = true,
        .driver = "shell",
        .payload = chp_buf_bytes(&sample->payload),
        .files = files,
        .file_count = 2,
        .context = {.entries = context, .count = 3},
        .displaces = displaces,
        .displaces_count = 2,
        .key = "k-1",
        .principal = "alice",
        .entered_ms = 1795000000001,
        .deadline_ms = 60000,
        .config = "{\"ResolutionMatrix\":[]}",
    };
    assert_int_equal(chp_uuid_parse("0199f3a2-7c00-7000-8000-000000000001", &operation->id), 0);
}

void sample_ack(struct sample *sample)
{
    *sample = (struct sample){.item.kind = CHP_ITEM_ACK};
    struct chp_ack *ack = &sample->item.ack;
    *ack = (struct chp_ack){
        .resource = "greeting",
        .site = "Rennes",
        .incarnation = 7,
        .run = 2,
        .state = CHP_STATE_IN_DOUBT,
        .exit_code = -1,
        .reason = "the machine stopped",
        .output = chp_bytes("\xff\0out", 5),
        .output_cut = true,
        .unverified = true,
        .started_ms = 1795000000002,
        .duration_ms = 12,
    };
    assert_int_equal(chp_uuid_parse("0199f3a2-7c00-7000-8000-000000000001", &ack->operation), 0);
}

void sample_deinit(struct sample *sample)
{
    chp_buf_deinit(&sample->payload);
    chp_arena_deinit(&sample->arena);
}

static int append(void *data, const char *bytes, size_t len)
{
    chp_buf_add(data, bytes, len);
    return 0;
}

msgpack_packer packer_to(struct chp_buf *buf)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, buf, append);
    return packer;
}

void pack(msgpack_packer *packer, const char *text)
{
    assert_int_equal(msgpack_pack_str_with_body(packer, text, strlen(text)), 0);
}

struct chp_bytes unhex(struct chp_arena *arena, const char *hex)
{
    char *digits = chp_arena_alloc(arena, strlen(hex) + 1);
    size_t len = 0;
    for (; *hex != 0; hex++) {
        if (*hex != ' ' && *hex != '\n') {
            digits[len++] = *hex;
        }
    }
    uint8_t *data = chp_arena_alloc(arena, len / 2 + 1);
    assert_int_equal(chp_hex_decode(digits, data, len / 2), 0);
    return chp_bytes(data, len / 2);
}
