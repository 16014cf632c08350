"""Django: `centcert serve --app django_app:app`."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path


def hello(request):
    return HttpResponse(f"Hello from {request.get_host().partition(':')[0]}")


urlpatterns = [path("", hello)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
app = get_asgi_application()
