from __future__ import annotations
import json, time
import redis
from mollm_backend.store import Store, projects
from mollm_backend.view import project, render

def test_all(trained: Store, connection: redis.Redis) -> None:
    s=time.time()
    state = project.state(trained, connection, projects.get(trained, 7))
    print(time.time()-s)
    open("/tmp/state.json","w").write(json.dumps(state, indent=1))
    open("/tmp/page.html","w").write(render.project_page(state, actions=render.Actions("tok")))
    open("/tmp/report.html","w").write(render.report(state))
