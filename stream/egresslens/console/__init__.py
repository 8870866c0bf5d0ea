"""The console: a web page and a JSON API over what is stored, read with the reader's account.

`app` puts it together and serves it. `guard` decides who may ask from where, `auth` who it is. `api` turns a
request into one of the `answers`, each a blocking function of the store and validated parameters; `openapi`
describes them from the very models that validate. Nothing here changes what is stored.
"""
