#!/usr/bin/env bash
# open(2) with O_CREAT, mknod(2), mkfifo(2), mkdir(2), bind(2): what is made, its mode, owner and times.
. "$(dirname "$0")/lib.sh"

expect 0 create f 644
expect f,0644,0,0,1,0 stat f type,mode,uid,gid,nlink,size
expect EEXIST create f 644
expect 0 -U 077 create u 666
expect 0600 stat u mode
expect 0 mkdir d 755
expect d,0755,2 stat d type,mode,nlink
expect EEXIST mkdir d 755
expect EEXIST mkdir f 755
expect 0 -U 027 mkdir du 777
expect 0750 stat du mode
expect 0 mkdir d/sub 755
expect 3 stat d nlink
expect 0 mkfifo p 644
expect p,0644 stat p type,mode
expect EEXIST mkfifo p 644
expect 0 mknod c c 644 1 3
expect c,1,3 stat c type,major,minor
expect 0 mknod b b 600 4000 1000000
expect b,4000,1000000 stat b type,major,minor
expect 0 mknod r r 640 0 0
expect f,0640 stat r type,mode
expect EEXIST mknod r r 640 0 0
expect 0 bind s
expect s lstat s type
expect EADDRINUSE bind s
expect ENOENT create nodir/f 644
expect ENOENT mkdir nodir/f 755
expect ENOTDIR create f/x 644
expect ENOTDIR mkdir f/x 755
expect ENOTDIR mkfifo f/x 644
expect ENAMETOOLONG create "$name256" 644
expect ENAMETOOLONG mkdir "$name256" 755
expect ENAMETOOLONG mkfifo "$name256" 644
expect 0 create "$name255" 644
expect 0 unlink "$name255"
expect 0 create $'\xff\x01\n' 644
expect 0 unlink $'\xff\x01\n'

# Owner and permission of the parent.
expect EACCES -u 1001 create d/x 644
expect EACCES -u 1001 mkdir d/x 755
expect EACCES -u 1001 mkfifo d/x 644
expect "EPERM|EACCES" -u 1001 mknod d/x c 644 1 3
get chmod d 777 >/dev/null
expect 0 -u 1001 -g 1002 create d/x 644
expect 1001,1002 stat d/x uid,gid
expect EPERM -u 1001 mknod d/y c 644 1 3
expect 0 -u 1001 -g 1002 mkdir d/dx 755
expect 1001,1002 stat d/dx uid,gid

# A setgid directory gives its group, and setgid to directories below.
get mkdir g 755 : chown g 0 5000 : chmod g 2777 >/dev/null
expect 0 -u 1001 -g 1002 create g/f 664
expect 1001,5000,0644 stat g/f uid,gid,mode
expect 0 -u 1001 -g 1002 mkdir g/d 755
expect 5000,2755 stat g/d gid,mode

# Times: the new object's and the parent's.
before=$(get stat . ctime)
tick
expect 0 create timed 644
older "$before" "$(get stat . ctime)" "ctime of the parent moved"
older "$before" "$(get stat . mtime)" "mtime of the parent moved"
same "$(get stat timed mtime)" "$(get stat timed ctime)" "mtime and ctime of a new file agree"
same "$(get stat timed btime)" "$(get stat timed ctime)" "birth time of a new file is its ctime"
before=$(get stat timed btime)
tick
get chmod timed 600 >/dev/null
same "$before" "$(get stat timed btime)" "birth time stays"
done_testing
