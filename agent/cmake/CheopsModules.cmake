# SPDX-License-Identifier: AGPL-3.0-only
# How every target of the project is built: one static library per module, so that a dependency that the
# architecture forbids does not link.

find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBEVENT REQUIRED IMPORTED_TARGET libevent libevent_openssl)
pkg_check_modules(OPENSSL REQUIRED IMPORTED_TARGET libcrypto libssl)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(RABBITMQ REQUIRED IMPORTED_TARGET librabbitmq)
pkg_check_modules(POSTGRES REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
find_library(MSGPACK_LIBRARY NAMES msgpackc msgpack-c REQUIRED)
add_library(msgpack INTERFACE)
target_link_libraries(msgpack INTERFACE ${MSGPACK_LIBRARY})

add_library(chp_flags INTERFACE)
target_compile_definitions(chp_flags INTERFACE _GNU_SOURCE CHEOPS_VERSION="${PROJECT_VERSION}")
target_compile_options(chp_flags INTERFACE
    -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
    -Wwrite-strings -Wformat=2 -Wundef -Wswitch-enum -Wvla -Wold-style-definition -Wimplicit-fallthrough
    -fno-common -fstack-protector-strong -g)
target_include_directories(chp_flags INTERFACE ${CMAKE_SOURCE_DIR}/agent ${CMAKE_SOURCE_DIR}/drivers)
if(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    target_compile_options(chp_flags INTERFACE -D_FORTIFY_SOURCE=2)
endif()
if(CHEOPS_SANITIZE)
    target_compile_options(chp_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
    target_link_options(chp_flags INTERFACE -fsanitize=address,undefined)
endif()
if(CHEOPS_FUZZ)
    target_compile_options(chp_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined
        -fno-sanitize-recover=all)
    target_link_options(chp_flags INTERFACE -fsanitize=address,undefined)
endif()

# chp_module(NAME SOURCES a.c ... DEPS other modules and libraries): static library chp_NAME.
function(chp_module name)
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
    add_library(chp_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(chp_${name} PUBLIC chp_flags ${ARG_DEPS})
endfunction()

# chp_program(NAME SOURCES ... DEPS ...): an installed executable.
function(chp_program name)
    cmake_parse_arguments(ARG "" "DESTINATION" "SOURCES;DEPS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE chp_flags ${ARG_DEPS})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
    if(NOT ARG_DESTINATION)
        set(ARG_DESTINATION ${CMAKE_INSTALL_BINDIR})
    endif()
    install(TARGETS ${name} RUNTIME DESTINATION ${ARG_DESTINATION})
endfunction()

# chp_unit_test(NAME SOURCES ... DEPS ...): a cmocka program, run by ctest as NAME with label unit
# (or LABEL given). It runs in the build directory and gets CHEOPS_SOURCE_DIR in its environment.
function(chp_unit_test name)
    cmake_parse_arguments(ARG "" "LABEL" "SOURCES;DEPS" ${ARGN})
    if(NOT ARG_LABEL)
        set(ARG_LABEL unit)
    endif()
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE chp_flags ${ARG_DEPS} cmocka)
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 120
        ENVIRONMENT "CHEOPS_SOURCE_DIR=${CMAKE_SOURCE_DIR};CHEOPS_BINARY_DIR=${CMAKE_BINARY_DIR}")
endfunction()

# chp_fuzz_target(NAME SOURCES ... DEPS ...): a libFuzzer program, built only with CHEOPS_FUZZ; its corpus is
# tests/fuzz/corpus/NAME.
function(chp_fuzz_target name)
    if(NOT CHEOPS_FUZZ)
        return()
    endif()
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
    add_executable(fuzz_${name} ${ARG_SOURCES})
    target_link_libraries(fuzz_${name} PRIVATE chp_flags ${ARG_DEPS})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(fuzz_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
endfunction()
