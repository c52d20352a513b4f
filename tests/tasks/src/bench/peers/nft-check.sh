#!/bin/sh
# Health checks for the nft files beside it, which have none: requests a page of every backend each 500 ms, takes it out when
# two checks in a row fail, and back when two pass. Running connections stay where conntrack has them.
#
#   nft-check.sh "numgen inc" VIP BACKEND...
set -u
choose=$1
vip=$2
shift 2
state=$(mktemp -d) # a file a backend: "up" or "down", and the number of consecutive checks with the opposite result
trap 'rm -rf "$state"' EXIT
trap 'exit 0' INT TERM

check() {
    read -r is against < "$state/$1"
    if curl -sf --noproxy '*' --max-time 0.3 -o /dev/null "http://$1/healthz"; then seen=up; else seen=down; fi
    if [ "$seen" = "$is" ]; then
        echo "$is 0" > "$state/$1"
    elif [ "$against" -ge 1 ]; then
        echo "$seen 0" > "$state/$1"
        : > "$state/changed"
    else
        echo "$is $((against + 1))" > "$state/$1"
    fi
}

publish() {
    count=0
    map=
    for backend; do
        read -r is _ < "$state/$backend"
        [ "$is" = up ] || continue
        map="$map${map:+, }$count : $backend"
        count=$((count + 1))
    done
    # With none left the last rule stays: a check may be wrong, and no backend is surely no answer.
    [ "$count" -gt 0 ] || return 0
    nft -f - <<NFT
flush chain ip balancer choose
add rule ip balancer choose ip daddr $vip tcp dport 80 counter name connections dnat to $choose mod $count map { $map }
NFT
}

for backend; do echo "up 0" > "$state/$backend"; done
while :; do
    sleep 0.5 &
    for backend; do check "$backend" & pids="${pids-} $!"; done
    # All at once, as a dead one takes its whole time.
    wait $pids
    pids=
    if [ -e "$state/changed" ]; then
        rm "$state/changed"
        publish "$@"
    fi
    wait
done
