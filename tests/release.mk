# Stands in for the template's Makefile in the tests of releases.

.PHONY: check runtime
check:
	@test ! -e check-fails

runtime:
	@test ! -e runtime-fails
	@cd '{{cookiecutter.project_slug}}/src/{{cookiecutter.package_name}}/runtime' && sha256sum VERSION > SHA256SUMS
