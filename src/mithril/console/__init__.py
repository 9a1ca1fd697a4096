"""The console: pages on which owners see and change the connections of their institution, without their MIS.

    GET  /console/…  ──► a session? ──no──► 303 to /console/sign-in?next=…
                          │ yes: for one client; what it may do is computed with every request
    POST /console/…  ──► session (401: the sign-in form) ──► scope, client ──► form ──► password ──► the change
                                                                                                      └──► 303 to a page

A change is the use case of the API's own method, with the API's own `Caller` and `Actor`: no rule stands here twice.
The templates, cookies and forms are those of `pages`; what the console adds to them is here.
"""
