/* A disk that takes longer for a sync: preloaded, it makes each fdatasync of a program take SLOW_SYNC_US microseconds more. For
 * durable_speed, on machines whose disks answer at once; docs/internals/log.md has the commands. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *longer = getenv("SLOW_SYNC_US");
    int result = next(fd);
    usleep(longer ? (useconds_t)atoi(longer) : 0);
    return result;
}
