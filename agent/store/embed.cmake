# SPDX-License-Identifier: AGPL-3.0-only
# cmake -DOUT=migrations.c -P embed.cmake FILE...: writes the SQL files into a C source, so that the agent brings its
# schema with it. Refuses files that are not numbered 001, 002, ... without a gap.
set(arrays "")
set(rows "")
set(number 0)
set(index 0)
while(index LESS CMAKE_ARGC)
    set(file "${CMAKE_ARGV${index}}")
    math(EXPR index "${index} + 1")
    if(NOT file MATCHES "\\.sql$")
        continue()
    endif()
    math(EXPR number "${number} + 1")
    get_filename_component(name "${file}" NAME)
    string(REGEX MATCH "^[0-9][0-9][0-9]" digits "${name}")
    math(EXPR padded "1000 + ${number}")
    string(SUBSTRING "${padded}" 1 3 expected)
    if(NOT digits STREQUAL expected)
        message(FATAL_ERROR "schema/${name}: its number must be ${expected}")
    endif()
    file(READ "${file}" hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const char sql_${number}[] = {${bytes}0};\n")
    string(APPEND rows "    {\"${name}\", sql_${number}},\n")
endwhile()
file(WRITE "${OUT}" "/* Generated from schema/ by embed.cmake. */
#include \"store/migrations.h\"

${arrays}
const struct migration store__migrations[] = {
${rows}};
const size_t store__migration_count = ${number};
")
