#!/usr/bin/env bash
# client.sh URL FOLDER: curl. A line for each answer: [step, body, status].
set -euo pipefail
url=$1/classify
cd "$2"

as() { # STEP: what every request of it has
  common=(--silent --show-error --header "X-Request-Id: $1" --write-out ',%{http_code}]\n' "$url")
  step=$1
}
send() { curl "${common[@]}" "$@" | sed "s/^/[\"$step\",/"; }

as raw && send --data-binary @first.jpg
as form && send --form file=@first.jpg --form file=@second.jpg
as chunked && send --header 'Transfer-Encoding: chunked' --data-binary @first.jpg
as gzip && send --header 'Content-Encoding: gzip' --data-binary @first.jpg.gz
as expect && send --header 'Expect: 100-continue' --data-binary @first.jpg
as refused && send --data-binary @large --next "${common[@]}" --data-binary @first.jpg # curl itself asks above 1 MB
as reused && next=(--next "${common[@]}" --data-binary @first.jpg)
send --data-binary @words "${next[@]}" "${next[@]}"
