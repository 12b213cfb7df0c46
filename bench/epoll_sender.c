/* The limit: N clients, pre-framed bytes, one send() per client and message, no protocol beyond the upgrade.
 *
 *   epoll_sender SHARED CLIENTS FRAME-FILE RATE WINDOW SECONDS
 *
 * FRAME-FILE holds equal-sized frames, the first 8 bytes of the file their size. RATE 0 sends as fast as WINDOW
 * messages not yet received by everybody allow. Prints its port, then runs when all clients are there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fanout.h"

struct peer {
    int fd;
    uint64_t sent; /* bytes of the stream written so far */
};

static struct fanout *shared;
static const uint8_t *frames;
static uint64_t frame_size, frame_count;
static struct peer *peers;
static int peer_count, poller;

/* Write what `upto` bytes of the stream leave open for this peer; watch the socket while it is full. */
static void advance(struct peer *p, uint64_t upto) {
    while (p->sent < upto) {
        uint64_t message = p->sent / frame_size, inside = p->sent % frame_size;
        const uint8_t *from = frames + (message % frame_count) * frame_size + inside;
        ssize_t n = send(p->fd, from, frame_size - inside, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) { p->sent = UINT64_MAX; return; }
            struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.ptr = p};
            if (epoll_ctl(poller, EPOLL_CTL_MOD, p->fd, &event) < 0)
                epoll_ctl(poller, EPOLL_CTL_ADD, p->fd, &event);
            return;
        }
        p->sent += (uint64_t)n;
    }
}

static void accept_all(int listener, int wanted) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char request[4096];
    while (peer_count < wanted) {
        int fd = accept(listener, NULL, NULL), one = 1;
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        for (int n = 0; !memmem(request, (size_t)n, "\r\n\r\n", 4);) {
            ssize_t got = recv(fd, request + n, sizeof request - (size_t)n, 0);
            if (got <= 0) exit(1);
            n += (int)got;
        }
        if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) exit(1);
        peers[peer_count++] = (struct peer){.fd = fd};
    }
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    shared = fanout_map(argv[1]);
    int wanted = atoi(argv[2]);
    int file = open(argv[3], O_RDONLY);
    struct stat st;
    if (file < 0 || fstat(file, &st) < 0) { perror(argv[3]); return 1; }
    const uint8_t *content = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    memcpy(&frame_size, content, 8);
    frames = content + 8;
    frame_count = ((uint64_t)st.st_size - 8) / frame_size;
    double rate = atof(argv[4]);
    uint64_t window = strtoull(argv[5], NULL, 10);
    uint64_t duration = (uint64_t)(atof(argv[6]) * 1e9);

    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 4096);
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    peers = calloc((size_t)wanted, sizeof *peers);
    poller = epoll_create1(0);
    accept_all(listener, wanted);
    while (__atomic_load_n(&shared->connected, __ATOMIC_ACQUIRE) < (uint64_t)wanted) usleep(1000);

    /* Wait for the driver: `reserved[0]` set means go. */
    while (!__atomic_load_n(&shared->reserved[0], __ATOMIC_ACQUIRE)) usleep(1000);
    uint64_t begin = now_ns(), k = 0, next = begin;
    struct epoll_event events[256];
    while (now_ns() - begin < duration && k < FANOUT_SLOTS) {
        int due = rate > 0 ? now_ns() >= next
                           : k - __atomic_load_n(&shared->completed, __ATOMIC_ACQUIRE) < window;
        if (due) {
            shared->published_ns[k] = now_ns();
            k++;
            __atomic_store_n(&shared->published, k, __ATOMIC_RELEASE);
            if (rate > 0) next += (uint64_t)(1e9 / rate);
            for (int i = 0; i < peer_count; i++) {
                struct peer *p = &peers[(i + (int)k * 101) % peer_count];
                if (p->sent >= (k - 1) * frame_size || p->sent % frame_size == 0) advance(p, k * frame_size);
            }
        }
        int wait = due ? 0 : 1;
        if (!due && rate > 0 && next > now_ns()) wait = (int)((next - now_ns()) / 1000000) + 1;
        int n = epoll_wait(poller, events, 256, wait);
        for (int i = 0; i < n; i++) advance(events[i].data.ptr, k * frame_size);
    }
    uint64_t deadline = now_ns() + 5000000000ull;
    while (shared->completed < k && now_ns() < deadline) {
        int n = epoll_wait(poller, events, 256, 10);
        for (int i = 0; i < n; i++) advance(events[i].data.ptr, k * frame_size);
    }
    __atomic_store_n(&shared->reserved[1], 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) usleep(10000);
    return 0;
}
