# Sourced: an interpreter that knows no sanitizer can load a library that was built with one only if the runtime is
# there first.
SANITIZE= PRELOAD=
case $B in
    */san-thread) SANITIZE=-fsanitize=thread PRELOAD="LD_PRELOAD=$(${CC:-cc} -print-file-name=libtsan.so)" ;;
    */san-*) SANITIZE=-fsanitize=address,undefined \
        PRELOAD="LD_PRELOAD=$(${CC:-cc} -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0" ;;
esac
