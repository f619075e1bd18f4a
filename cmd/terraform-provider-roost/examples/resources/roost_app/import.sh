terraform import roost_app.web web   # or the ID of the app
