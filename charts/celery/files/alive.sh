# Fails when the worker has been silent for 5 minutes although the broker answers: a restart would help, and only then.
sh "$(dirname "$0")/consuming.sh" 300 && exit 0
! python -c '
import os, kombu
kombu.Connection(os.environ["CELERY_BROKER_URL"], connect_timeout=10).ensure_connection(max_retries=1)
' 2>/dev/null
