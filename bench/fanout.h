/* What publisher, load client and bench/proxy.py share: one file mapped by all of them. */
#ifndef FANOUT_H
#define FANOUT_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FANOUT_SLOTS 65536 /* messages of one run */

struct fanout {
    uint64_t published;             /* messages handed to the server so far */
    uint64_t completed;             /* messages every client has in full */
    uint64_t deliveries;            /* messages received, over all clients */
    uint64_t connected;             /* clients past their handshake */
    uint64_t stop;                  /* set by the driver: end */
    uint64_t lost;                  /* connections that ended early */
    uint64_t reserved[2];
    uint64_t published_ns[FANOUT_SLOTS];
    uint64_t last_ns[FANOUT_SLOTS]; /* when the last client had the whole message */
};

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline struct fanout *fanout_map(const char *path) {
    int fd = open(path, O_RDWR);
    if (fd < 0) { perror(path); exit(1); }
    void *at = mmap(NULL, sizeof(struct fanout), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) { perror("mmap"); exit(1); }
    close(fd);
    return at;
}

#endif
