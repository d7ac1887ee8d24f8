# Fails when the worker has been silent for 5 minutes although the broker answers: a restart would help, and only then.
sh "$(dirname "$0")/consuming.sh" 300 && exit 0
# By the chart's settings, TLS among them: the password is for the broker alone.
! python -c '
import sys
sys.path.insert(0, sys.argv[1])
import celery, trireme_app
app = celery.Celery(set_as_current=False)
trireme_app.settle(app)
app.connection_for_read(connect_timeout=10).ensure_connection(max_retries=1)
' "$(dirname "$0")" 2>/dev/null
